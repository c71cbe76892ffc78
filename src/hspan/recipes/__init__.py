"""Packaged recipes, one TOML file per published setting; ``hspan.training.load_recipe`` reads them."""
