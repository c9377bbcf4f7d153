"""Groups of routes: `{hosts: [...], routes: [...]}` in the list of routes stands for its routes, each with its hosts.

Pure, from tree to tree: whatever reads a policy after this knows routes alone, each at its place in the file. Called by
`draft`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scopegate.policy.tree import Entries, Entry, Fault, Items, Node, Tree

_ROUTES, _HOSTS = "routes", "hosts"


def ungrouped(tree: Tree) -> Tree:
    """The same file without groups; what is wrong with them is among the faults."""
    root = tree.root
    if not isinstance(root, Entries) or _ROUTES not in root.entries:
        return tree
    listed = root.entries[_ROUTES]
    if not isinstance(listed.node, Items) or not any(map(_is_group, listed.node.items)):
        return tree
    faults: list[Fault] = []
    routes: list[Node] = []
    for item in listed.node.items:
        routes += _members(item, len(routes), faults) if _is_group(item) else [item]
    flat = Entry(listed.key_place, Items(listed.node.place, tuple(routes)))
    return replace(tree, root=replace(root, entries={**root.entries, _ROUTES: flat}), faults=(*tree.faults, *faults))


def _is_group(node: Node) -> bool:
    return isinstance(node, Entries) and _ROUTES in node.entries


def _members(group: Node, index: int, faults: list[Fault]) -> list[Node]:
    """The group's routes; `index` is that of the first of them."""
    assert isinstance(group, Entries)
    loc = (_ROUTES, index)
    for key, entry in group.entries.items():
        if key not in {_ROUTES, _HOSTS}:
            faults.append(Fault(entry.key_place, (*loc, key), "unknown key: a group has `hosts` and `routes`"))
    if _HOSTS not in group.entries:
        faults.append(Fault(group.place, loc, "a group of routes needs `hosts`"))
    routes = group.entries[_ROUTES].node
    if not isinstance(routes, Items) or not routes.items:
        faults.append(Fault(routes.place, (*loc, _ROUTES), "must be a list of routes"))
        return []
    return list(_with_hosts(routes, group.entries.get(_HOSTS), index, faults))


def _with_hosts(routes: Items, hosts: Entry | None, index: int, faults: list[Fault]) -> Iterator[Node]:
    for number, route in enumerate(routes.items, index):
        if not isinstance(route, Entries) or hosts is None:
            yield route
            continue
        for key in {_HOSTS, _ROUTES} & route.entries.keys():
            what = "stands in a group, which says that for all its routes"
            faults.append(Fault(route.entries[key].key_place, (_ROUTES, number, key), what))
        yield Entries(route.place, {**route.entries, _HOSTS: hosts})
