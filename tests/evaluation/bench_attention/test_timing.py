from hspan.evaluation.bench_attention._timing import LEAST, MOST, alternate, plan_repetitions


class Clock:
    """Stands still except where a run takes its time."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def __call__(self):
        return self.now

    def run(self, name, *seconds):
        taken = iter(seconds)

        def spend():
            self.order.append(name)
            self.now += next(taken)

        return spend


def test_medians_and_bests_are_of_each_thing_alone():
    clock = Clock()
    runs = {"a": clock.run("a", 1, 9, 2), "b": clock.run("b", 40, 10, 30)}
    times = alternate(runs, {"a": 3, "b": 3}, clock)
    assert (times["a"].median, times["a"].best, times["a"].repetitions) == (2, 1, 3)
    assert (times["b"].median, times["b"].best, times["b"].repetitions) == (30, 10, 3)


def test_rounds_alternate_and_begin_with_another_each_time():
    clock = Clock()
    runs = {name: clock.run(name, *[1] * 9) for name in "abc"}
    alternate(runs, {"a": 6, "b": 6, "c": 2}, clock)
    assert "".join(clock.order) == "ab" + "ba" + "cab" + "ab" + "ba" + "cab"


def test_every_thing_gets_an_equal_share_of_the_time():
    plan = plan_repetitions({"slow": 10.0, "quick": 2.0, "instant": 1e-6}, 60.0)
    assert plan == {"slow": LEAST, "quick": 10, "instant": MOST}


def test_nothing_to_time():
    assert alternate({}, plan_repetitions({}, 1.0)) == {}


def test_the_real_clock_runs():
    (timing,) = alternate({"sum": lambda: sum(range(10_000))}, {"sum": 3}).values()
    assert 0 < timing.best <= timing.median
