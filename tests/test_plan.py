"""Plans of random values and of random graphs: no two live buffers overlap."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from fastcnn.graph import Node
from fastcnn.liveness import CacheSpec, cache_name, dy_name, lifetimes, recomputing, y_name
from fastcnn.plan import ALIGNMENT, PAGE, PAGE_ALIGNED, Plan, Value, plan
from fastcnn.schedule import Schedule, divisions


def assert_no_overlap(values: list[Value], placed: Plan) -> None:
    """Compare every pair; an alias counts as its root, for all times of the group."""
    root = {}
    for value in values:
        root[value.name] = value.name if value.alias_of is None else root[value.alias_of]
    for i, a in enumerate(values):
        begin, end = placed.offsets[a.name], placed.offsets[a.name] + a.nbytes
        assert end <= placed.nbytes
        for b in values[:i]:
            if root[a.name] == root[b.name]:
                assert placed.offsets[a.name] == placed.offsets[b.name]
                continue
            together = a.first <= b.last and b.first <= a.last
            apart = end <= placed.offsets[b.name] or placed.offsets[b.name] + b.nbytes <= begin
            assert apart or not together, f"{a} at {begin} and {b} at {placed.offsets[b.name]}"


@pytest.mark.parametrize("seed", range(40))
def test_random_values_do_not_overlap(seed):
    rng = random.Random(seed)
    values: list[Value] = []
    for i in range(rng.randrange(1, 60)):
        first = rng.randrange(50)
        alias = rng.choice(values).name if values and rng.random() < 0.2 else None
        nbytes = rng.choice([0, 1, 63, 64, 100, 4096, PAGE_ALIGNED, PAGE_ALIGNED + 1, 200_000])
        values.append(Value(f"v{i}", nbytes, first, first + rng.randrange(20), alias))
    placed = plan(values)
    assert_no_overlap(values, placed)
    for value in values:
        assert placed.offsets[value.name] % ALIGNMENT == 0
        if value.nbytes >= PAGE_ALIGNED:
            assert placed.offsets[value.name] % PAGE == 0


def lowest_gaps(values: list[Value]) -> dict[str, int]:
    """Return the offsets of values without aliases by looking at every pair: largest first, lowest gap that fits."""
    offsets: dict[str, int] = {}
    placed: list[Value] = []
    for value in sorted(values, key=lambda value: -value.nbytes):
        step = PAGE if value.nbytes >= PAGE_ALIGNED else ALIGNMENT
        met = [other for other in placed if other.first <= value.last and value.first <= other.last]
        spans = sorted((offsets[other.name], offsets[other.name] + other.nbytes) for other in met)
        offset = 0
        for begin, end in spans:
            if begin >= offset + value.nbytes:
                break
            if end > offset:
                offset = -(-end // step) * step
        offsets[value.name] = offset
        placed.append(value)
    return offsets


@pytest.mark.parametrize("seed", range(50))
def test_each_value_lies_in_the_lowest_gap(seed):
    rng = random.Random(seed)
    values = []
    for i in range(60):
        first, nbytes = rng.randrange(40), rng.choice([0, 1, 64, 100, 4096, 5000, 65536, 70000, 130000])
        values.append(Value(f"v{i}", nbytes, first, rng.randrange(first, 41)))
    assert plan(values).offsets == lowest_gaps(values)


def lines_run(function, *arguments) -> int:
    """Return how many lines of Python a call runs, those of comprehensions in every turn."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return count


def deep(n: int) -> list[Value]:
    """Values of a training step of n layers: outputs kept until their backward step, and gradients."""
    outputs = [Value(f"y{i}", 64 * (1 + i % 3), i, 2 * n - 1 - i) for i in range(n)]
    return outputs + [Value(f"dy{i}", 64 * (1 + i % 3), 2 * n - 2 - i, 2 * n - 1 - i) for i in range(n - 1)]


def test_planning_costs_n_log_n():
    small, large = (lines_run(plan, deep(n)) for n in (500, 4000))
    assert large < 8 * 1.6 * small  # 12/9 for the logarithm; n*n would be 64 times as much


def test_values_that_never_meet_share_memory():
    chain = [Value(f"v{i}", 1000, i, i + 1) for i in range(20)]
    assert plan(chain).nbytes == 2 * 1024  # each with its neighbour only


def test_the_largest_value_lies_first_and_a_gap_is_filled():
    values = [Value("a", 640, 0, 9), Value("b", 320, 0, 1), Value("c", 320, 2, 9), Value("d", 64, 0, 9)]
    placed = plan(values)
    assert placed.offsets == {"a": 0, "b": 640, "c": 640, "d": 960}
    assert placed.nbytes == 1024


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([Value("a", 1, 0, 1), Value("a", 1, 0, 1)], "listed twice"),
        ([Value("a", 1, 2, 1)], "lives from 2 to 1"),
        ([Value("a", 1, 0, 1, alias_of="b")], "not listed before"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        plan(values)


def test_planning_needs_neither_numpy_nor_the_engine():
    code = (
        "import sys, fastcnn.plan, fastcnn.liveness, fastcnn.graph, fastcnn.schedule;"
        "sys.exit('numpy' in sys.modules or 'fastcnn._core' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- lifetimes ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Op:
    """A step that declares what a test wants."""

    x: tuple[bool, ...] = ()
    y: bool = False
    over: tuple[int, ...] = ()
    passes: tuple[int, ...] = ()
    view: bool = False
    repeatable: bool = True
    cache: dict[str, CacheSpec] = field(default_factory=dict)

    def overwrites(self):
        return self.over

    def passes_gradient_to(self):
        return self.passes

    def keeps_x(self, index):
        return self.x[index]

    def keeps_y(self):
        return self.y


def random_graph(rng: random.Random) -> tuple[list[Node[Op]], set[int]]:
    nodes = [Node(Op(), (), (4,))]
    for _ in range(rng.randrange(1, 25)):
        arity = rng.choice([1, 1, 1, 2, 3])
        inputs = [rng.choice(nodes[-6:]) for _ in range(arity)]
        some = [i for i in range(arity) if rng.random() < 0.5]
        view = arity == 1 and rng.random() < 0.15
        size = inputs[0].sample_shape if view or rng.random() < 0.6 else (rng.choice([4, 8, 20]),)
        op = Op(
            x=tuple(rng.random() < 0.4 for _ in range(arity)),
            y=rng.random() < 0.3,
            over=tuple(some),
            passes=tuple(i for i in some if inputs[i].sample_shape == size),
            view=view,
            cache={
                life: CacheSpec((8,), lifetime=life)
                for life in ("forward", "backward", "both", "whole")
                if rng.random() < 0.2
            },
        )
        nodes.append(Node(op, inputs, size))
    # the last node depends on all that nobody reads
    read = {x for node in nodes for x in node.inputs}
    ends = [node for node in nodes if node not in read]
    nodes.append(Node(Op(x=(False,) * len(ends)), ends, (1,)))
    first = rng.randrange(1, len(nodes))
    active: set[int] = set()
    for i, node in enumerate(nodes):
        if i and (i == first or rng.random() < 0.1 or any(nodes.index(x) in active for x in node.inputs)):
            active.add(i)
    active.add(len(nodes) - 1)
    return nodes, active


class Memory:
    """Plays a program on a dict from byte to the value that owns it; reading what another value has taken fails."""

    def __init__(self, values: list[Value], placed: Plan) -> None:
        self.sizes = {value.name: value.nbytes for value in values}
        self.placed = placed
        self.owner: dict[int, str] = {}

    def write(self, name: str) -> None:
        for byte in self.span(name):
            self.owner[byte] = name

    def read(self, name: str, *also: str) -> None:
        for byte in self.span(name):
            assert self.owner.get(byte) in (name, *also), f"{name} was overwritten by {self.owner.get(byte)}"

    def span(self, name: str) -> range:
        offset = self.placed.offsets[name]
        return range(offset, offset + self.sizes[name], 4)


def any_schedule(rng: random.Random, n: int, active: set[int]) -> Schedule:
    """Return a schedule with borders anywhere, in which any active steps run again."""
    cuts = sorted(rng.sample(range(1, n), min(n - 1, rng.randrange(5))))
    segments = tuple(range(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True))
    return Schedule(n, segments, {i for i in active - {n - 1} if rng.random() < 0.7})


@pytest.mark.parametrize("recompute", ["nothing", "anything", "all"])
@pytest.mark.parametrize("seed", range(200))
def test_random_graphs_never_read_what_was_overwritten(seed, recompute):
    rng = random.Random(seed)
    nodes, active = random_graph(rng)
    caches = [node.layer.cache for node in nodes]
    times = {
        "nothing": lambda: Schedule(len(nodes)),
        "anything": lambda: any_schedule(rng, len(nodes), active),
        "all": lambda: recomputing(nodes, [nodes[-1]], active, caches, 2),
    }[recompute]()
    found = lifetimes(nodes, [nodes[-1]], active, caches, 2, None if recompute == "nothing" else times)
    placed = plan(found.values)
    assert_no_overlap(found.values, placed)

    number = {node: i for i, node in enumerate(nodes)}
    alias = {value.name: value.alias_of for value in found.values}
    memory = Memory(found.values, placed)
    memory.write(y_name(0))
    for i, caches_of in enumerate(caches):
        for key, spec in caches_of.items():
            if spec.lifetime == "whole":
                memory.write(cache_name(i, key))

    def views_of(i: int, again: bool) -> list[str]:
        """Names under which the content of y_i may lie in memory: views do not write."""
        names = [y_name(i, again)]
        while nodes[i].layer.view:
            source = number[nodes[i].inputs[0]]
            i, again = source, again and times.reads_again(source, i)
            names.append(y_name(i, again))
        return names

    def seen(i: int, x: Node[Op], later: bool) -> list[str]:
        return views_of(number[x], later and times.reads_again(number[x], i))

    def forward(i: int, again: bool) -> None:
        for x in nodes[i].inputs:
            memory.read(*seen(i, x, again))
        for key, spec in caches[i].items():
            if spec.lifetime in ("forward", "both"):
                memory.write(cache_name(i, key, again))
        if not nodes[i].layer.view:
            memory.write(y_name(i, again))

    have: set[str] = set()

    def backward(i: int) -> None:
        node, op, again = nodes[i], nodes[i].layer, i in times.again
        if i < len(nodes) - 1:
            assert dy_name(i) in have
        for position, x in enumerate(node.inputs):
            if op.keeps_x(position):
                memory.read(*seen(i, x, True))
        if op.keeps_y():
            memory.read(*views_of(i, again))
        for key, spec in caches[i].items():
            if spec.lifetime == "whole":
                memory.read(cache_name(i, key))
            if spec.lifetime == "both":
                memory.read(cache_name(i, key, again))
            if spec.lifetime == "backward":
                memory.write(cache_name(i, key, again))
        for write in found.writes[i]:
            if write.node is None:
                continue
            name = dy_name(write.node)
            assert write.accumulate == (name in have)
            if write.accumulate:
                memory.read(name)
            if i < len(nodes) - 1 and alias[name] != dy_name(i):
                before = [dy_name(w.node) for w in found.writes[i] if w.node is not None and dy_name(w.node) in have]
                memory.read(dy_name(i), *(n for n in before if alias[n] == dy_name(i)))
            memory.write(name)
            have.add(name)

    for i in range(1, len(nodes)):
        forward(i, False)
    for i, again in times.backward:
        if again:
            forward(i, True)
        elif i in active:
            backward(i)
    for i, caches_of in enumerate(caches):
        for key, spec in caches_of.items():
            if spec.lifetime == "whole":
                memory.read(cache_name(i, key))
    memory.read(y_name(len(nodes) - 1))
    assert {write.node for row in found.writes.values() for write in row if write.node is not None} <= active


def chain(*ops: Op) -> list[Node[Op]]:
    nodes = [Node(Op(), (), (4,))]
    for op in ops:
        nodes.append(Node(op, [nodes[-1]], (4,)))
    return nodes


def aliases(nodes: list[Node[Op]], active: set[int], outputs: list[Node[Op]] | None = None) -> dict[str, str | None]:
    found = lifetimes(nodes, outputs or [nodes[-1]], active, [{}] * len(nodes), 1)
    return {value.name: value.alias_of for value in found.values}


def test_in_place_needs_an_input_that_nobody_reads_later():
    relu = Op(x=(False,), y=True, over=(0,))
    assert aliases(chain(Op(x=(True,)), relu), {1, 2})["y2"] == "y1"
    assert aliases(chain(Op(x=(True,), y=True), relu), {1, 2})["y2"] is None  # the producer saves y
    assert aliases(chain(Op(x=(True,), y=True), relu), set())["y2"] == "y1"  # but only for a backward run
    nodes = chain(Op(x=(False,)), relu)
    nodes.append(Node(Op(x=(False, False)), [nodes[1], nodes[2]], (4,)))
    assert aliases(nodes, set())["y2"] is None  # another consumer comes later
    nodes = chain(Op(x=(False,)), relu)
    assert aliases(nodes, set(), [nodes[1], nodes[2]])["y2"] is None  # an output stays


def test_in_place_sees_through_views():
    view = Op(x=(False,), view=True, passes=(0,))
    nodes = chain(Op(x=(False,)), view, Op(x=(False,), over=(0,)))
    assert aliases(nodes, set())["y3"] == "y2"
    nodes.append(Node(Op(x=(False, False)), [nodes[3], nodes[1]], (4,)))  # reads what the view shows
    assert aliases(nodes, set())["y3"] is None


def test_in_place_is_refused_when_another_input_of_the_step_lies_there_too():
    nodes = chain(Op(x=(False,)))
    nodes.append(Node(Op(x=(False, False), over=(0,)), [nodes[1], nodes[1]], (4,)))
    assert aliases(nodes, set())["y2"] is None
    nodes[-1] = Node(Op(x=(False, False), over=(0, 1)), [nodes[1], nodes[1]], (4,))
    assert aliases(nodes, set())["y2"] == "y1"


def test_two_gradients_of_one_step_for_the_same_node_do_not_take_dy():
    nodes = chain(Op(x=(False,)))
    nodes.append(Node(Op(x=(False, False), passes=(0, 1)), [nodes[1], nodes[1]], (4,)))
    nodes.append(Node(Op(x=(False,)), [nodes[-1]], (1,)))
    found = lifetimes(nodes, [nodes[-1]], {1, 2, 3}, [{}] * 4, 1)
    assert [(w.node, w.accumulate) for w in found.writes[2]] == [(1, False), (1, True)]
    assert {value.name: value.alias_of for value in found.values}["dy1"] is None


def test_a_fork_is_written_once_and_then_added_to():
    nodes = chain(Op(x=(False,)))
    left = Node(Op(x=(False,)), [nodes[1]], (4,))
    right = Node(Op(x=(False,)), [nodes[1]], (4,))
    nodes += [left, right, Node(Op(x=(False, False), passes=(0, 1)), [left, right], (4,))]
    nodes.append(Node(Op(x=(False,)), [nodes[-1]], (1,)))
    found = lifetimes(nodes, [nodes[-1]], {1, 2, 3, 4, 5}, [{}] * 6, 1)
    assert [(w.node, w.accumulate) for w in found.writes[3]] == [(1, False)]
    assert [(w.node, w.accumulate) for w in found.writes[2]] == [(1, True)]
    assert [(w.node, w.accumulate) for w in found.writes[1]] == [(None, False)]  # never for the input picture
    alias = {value.name: value.alias_of for value in found.values}
    assert (alias["dy2"], alias["dy3"]) == ("dy4", None)  # one branch takes dy over, the other gets a copy
    first = {value.name: value.first for value in found.values}
    assert first["dy1"] == 2 * 6 - 1 - 3


# -- recomputing -------------------------------------------------------------------------------------------------------


def deep_chain(n: int) -> list[Node[Op]]:
    return chain(*(Op(x=(True,), over=()) for _ in range(n)), Op(x=(False,)))


def test_recomputing_a_chain_takes_the_root_of_its_memory():
    sizes = {}
    for n in (25, 100, 400):
        nodes = deep_chain(n)
        active, caches = set(range(1, len(nodes))), [{}] * len(nodes)
        kept = plan(lifetimes(nodes, [nodes[-1]], active, caches, 16).values).nbytes
        times = recomputing(nodes, [nodes[-1]], active, caches, 16)
        sizes[n] = plan(lifetimes(nodes, [nodes[-1]], active, caches, 16, times).values).nbytes
        assert len(times.again) < n
        assert kept >= 256 * n
    assert sizes[400] < 1.5 * 4 * sizes[25]  # 2 sqrt(n), not n
    assert sizes[100] < 256 * 26


def test_steps_of_the_last_segment_and_those_that_cannot_do_not_run_again():
    nodes = deep_chain(40)
    nodes[5].layer.repeatable = False
    times = recomputing(nodes, [nodes[-1]], set(range(1, len(nodes))), [{}] * len(nodes), 16)
    assert 5 not in times.again
    assert not times.again & set(times.segments[-1])
    order = [i for i, again in times.backward if not again]
    assert order == list(reversed(range(len(nodes))))
    for i in times.again:
        assert len(nodes) <= times.time_again(i) < times.time_backward(i) < times.end


@pytest.mark.parametrize("seed", range(20))
def test_segments_follow_each_other(seed):
    rng = random.Random(seed)
    n = rng.randrange(1, 60)
    found = divisions([rng.randrange(50) for _ in range(n)], [rng.choice([0, 1, 10, 40]) for _ in range(n)])
    assert found[0] == (range(n),)
    assert len(set(found)) == len(found)
    for segments in found:
        assert [i for segment in segments for i in segment] == list(range(n))
        assert all(segments)


def test_borders_lie_where_little_crosses():
    crossing = [0] + [1 if i % 4 == 0 else 10 for i in range(1, 64)]
    segments = divisions(crossing, [4] * 64)[1]
    assert len(segments) > 3
    assert {segment.start % 4 for segment in segments} == {0}
