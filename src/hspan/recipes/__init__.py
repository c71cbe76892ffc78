"""Packaged recipes, one TOML file per published setting, for ``hspan.training.load_recipe``."""
