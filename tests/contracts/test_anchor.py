"""Anchors are consecutive, each names its predecessor, and none is rewritten."""

from tests.contracts.chain import refused
from tests.contracts.world import World

FIRST, SECOND, NONE = b"1" * 32, b"2" * 32, bytes(32)


def test_A1_roots_follow_each_other(world: World) -> None:
    world.send("anchor", "anchor", "post", 1, FIRST, NONE, 10, b"t" * 32)

    with refused("anchor: epoch does not follow the last one"):
        world.send("anchor", "anchor", "post", 3, SECOND, FIRST, 10, b"t" * 32)
    with refused("anchor: previous root does not match"):
        world.send("anchor", "anchor", "post", 2, SECOND, SECOND, 10, b"t" * 32)
    with refused("anchor: root is empty"):
        world.send("anchor", "anchor", "post", 2, NONE, FIRST, 10, b"t" * 32)
    world.send("anchor", "anchor", "post", 2, SECOND, FIRST, 10, b"t" * 32)
    assert world.call("anchor", "last_epoch") == 2
    assert world.call("anchor", "root_of", 1) == FIRST


def test_A1_an_anchored_root_is_never_rewritten(world: World) -> None:
    world.send("anchor", "anchor", "post", 1, FIRST, NONE, 10, b"t" * 32)

    with refused("anchor: epoch does not follow the last one"):
        world.send("anchor", "anchor", "post", 1, SECOND, NONE, 10, b"t" * 32)

    assert world.call("anchor", "root_of", 1) == FIRST


def test_A1_a_bundle_is_written_once(world: World) -> None:
    world.send("anchor", "anchor", "bundle", 7, FIRST)

    with refused("anchor: window has its bundle already"):
        world.send("anchor", "anchor", "bundle", 7, SECOND)
    with refused("anchor: bundle hash is empty"):
        world.send("anchor", "anchor", "bundle", 8, NONE)
    assert world.call("anchor", "bundle_of", 7) == FIRST


def test_A1_only_the_anchor_key_writes(world: World) -> None:
    with refused("anchor: only the anchor key may post"):
        world.send("operator", "anchor", "post", 1, FIRST, NONE, 10, b"t" * 32)
    with refused("anchor: only the anchor key may post"):
        world.send("operator", "anchor", "bundle", 7, FIRST)

    world.enact("anchor", 1, "operator")
    world.send("operator", "anchor", "post", 1, FIRST, NONE, 10, b"t" * 32)


def test_an_unknown_action_changes_nothing(world: World) -> None:
    with refused("anchor: no such action"):
        world.enact("anchor", 2, "operator")
