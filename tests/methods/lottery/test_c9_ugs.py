"""C9: unified graph sparsification."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import sentei
from sentei.graph.errors import PruneError
from sentei.hooks import GraphMasks
from sentei.methods import METHODS, apply
from sentei.methods.lottery.rounds import path
from sentei.methods.lottery.ugs import cut_edges, graph_ticket
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from sentei.structures.edges import (
    KeptEdges,
    edges_of,
    keep_edges,
    keeps_edges,
    pairs_of,
    take_edges,
    weighted_edges,
)
from sentei.tasks.graphs import GAT, block_graph

TASK = block_graph(nodes=40, features=8, inside=0.2, between=0.05)
X, EDGES = TASK.example
RECIPE = Recipe(epochs=4, lr=8e-3, optimizer="adam", schedule="constant")


def graph(make, density=0.25, **more):
    more = {"recipe": RECIPE, **more}
    return make(density, model=TASK.build("gcn", 0), data=TASK.train, **more)


def search(given, **options):
    shapes = {n: tuple(w.shape) for n, w in given.weights.items()}
    return graph_ticket(given, path(shapes, given.density), **options)


def test_masks_of_ones_are_the_plain_network():
    model = TASK.build("gcn", 0)
    plain = model(X, EDGES)
    ones = torch.ones(EDGES.shape[1])
    with weighted_edges(model, EDGES, lambda: (ones.bool(), ones)):
        assert torch.equal(model(X, EDGES), plain)
    assert torch.equal(model(X, EDGES), plain)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_the_normalisation_is_that_of_the_masked_graph():
    model = TASK.build("gcn", 0)
    weight = torch.rand(EDGES.shape[1])
    keep = torch.rand(EDGES.shape[1]) < 0.7
    nodes = len(X)
    dense = torch.zeros(nodes, nodes)
    dense[EDGES[1][keep], EDGES[0][keep]] = weight[keep]
    dense += torch.eye(nodes)  # self-loops come after the mask
    inverse = dense.sum(1).rsqrt()
    matrix = inverse[:, None] * dense * inverse[None, :]
    hidden = (matrix @ model.first.lin(X) + model.first.bias).relu()
    want = matrix @ model.second.lin(hidden) + model.second.bias
    with weighted_edges(model, EDGES, lambda: (keep, weight)):
        torch.testing.assert_close(model(X, EDGES), want)


def test_the_edge_masks_are_symmetric_and_within_the_graph(make):
    ticket = search(graph(make))
    kept = {tuple(e) for e in EDGES[:, ticket.edges].T.tolist()}
    assert kept and kept <= {tuple(e) for e in EDGES.T.tolist()}
    assert kept == {(j, i) for i, j in kept}


def test_densities_after_each_round(make):
    ticket = search(graph(make), edge_rate=0.1)
    pairs = int(pairs_of(EDGES).max()) + 1
    before = Masks.full(ticket.masks)
    for r, (masks, edges) in enumerate(ticket.history, 1):
        assert int(edges.sum()) == 2 * round(0.9**r * pairs)
        share = 0.8**r if r < len(ticket.history) else 0.25
        assert masks.kept == round(share * masks.total)
        assert (masks & before).equal(masks)
        before = masks


def test_rewinding_restores_the_initial_weights(make):
    given = graph(make)
    ticket = search(given)
    for state, _ in given.began:
        assert all(torch.equal(t, given.initial[n]) for n, t in state.items())
    assert all(torch.equal(t, given.initial[n]) for n, t in given.state().items())
    assert all(torch.equal(t, given.initial[n]) for n, t in ticket.start.items())


def test_self_loops_and_lonely_nodes_stay():
    edges = torch.tensor([[0, 0, 1, 2], [0, 1, 0, 2]])
    pairs = pairs_of(edges)
    assert pairs.tolist() == [-1, 0, 0, -1]
    keep = cut_edges(torch.ones(1), pairs, torch.ones(4, dtype=torch.bool), 0.0)
    assert keep.tolist() == [True, False, False, True]
    model = TASK.build("gcn", 0)
    handle = keep_edges(model, EDGES, torch.zeros(EDGES.shape[1], dtype=torch.bool))
    alone = model(X, EDGES)  # no edges at all: every node by its own features
    handle.remove()
    hidden = (model.first.lin(X) + model.first.bias).relu()
    torch.testing.assert_close(alone, model.second.lin(hidden) + model.second.bias)


def test_gradients_of_the_masks_by_autograd(make):
    given = graph(make)
    alive = torch.ones(EDGES.shape[1], dtype=torch.bool)
    masks = Masks({n: torch.rand(w.shape) < 0.8 for n, w in given.weights.items()})
    hook = GraphMasks(masks, EDGES, alive, edge_l1=0.3, weight_l1=0.2)
    model, (inputs, y) = given.model, TASK.train[0]
    loose = hook.loose.detach().clone().requires_grad_()
    soft = {n: m.clone().requires_grad_() for n, m in hook.soft.items()}
    values = {n: w * soft[n] * masks[n] for n, w in given.weights.items()}
    with weighted_edges(model, EDGES, lambda: (alive, loose[pairs_of(EDGES)])):
        loss = given.loss(torch.func.functional_call(model, values, inputs), y)
    loss = loss + 0.3 * loose.abs().sum() + 0.2 * sum(m.abs().sum() for m in soft.values())
    want = torch.autograd.grad(loss, [loose, *soft.values()])
    caught = []
    hook.start(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
    trained = hook.own.param_groups[0]["params"]
    hook.own.step = lambda: caught.extend(p.grad.clone() for p in trained)
    with weighted_edges(model, EDGES, hook.edges_now):
        given.loss(model(*inputs), y).backward()
    assert hook.before_step()
    for one, two in zip(caught, want, strict=True):
        torch.testing.assert_close(one, two)


def test_the_method_leaves_a_model_that_keeps_to_its_edges(make):
    given = graph(make)
    outcome = apply(METHODS["ugs"], given, edge_rate=0.2)
    assert outcome.kept == round(0.25 * outcome.weights)
    ticket = search(graph(make), edge_rate=0.2)
    plain = TASK.build("gcn", 1)
    plain.load_state_dict(given.model.state_dict())
    assert torch.equal(given.model(X, EDGES), plain(X, EDGES[:, ticket.edges]))
    assert not torch.equal(given.model(X, EDGES), plain(X, EDGES))


def test_what_is_left_is_saved_and_loaded_as_a_plain_model_and_its_edges(make, tmp_path):
    given = graph(make)
    outcome = apply(METHODS["ugs"], given, edge_rate=0.2)
    sparse, want = given.model, given.model(X, EDGES)
    assert keeps_edges(nn.Sequential(sparse))
    with pytest.raises(PruneError, match=r"take_edges\(model\), save the model"):
        sentei.save(sparse, tmp_path / "model", masks=outcome.masks)
    assert not (tmp_path / "model").exists()
    assert torch.equal(copy.deepcopy(sparse)(X, EDGES), want)
    kept = take_edges(sparse)
    assert not keeps_edges(sparse) and take_edges(sparse) is None
    assert not sparse._forward_pre_hooks_with_kwargs
    folder = sentei.save(sparse, tmp_path / "model", masks=outcome.masks)
    path = kept.save(tmp_path / "edges.safetensors")
    model = sentei.load(folder, TASK.build("gcn", 3))
    assert not torch.equal(model(X, EDGES), want)
    KeptEdges.load(path).attach(model)
    assert torch.equal(model(X, EDGES), want)
    assert torch.equal(model(X, kept.left), want)  # any other graph is as it comes


def test_masks_are_those_of_the_best_epoch(make):
    scores = iter([0.1, 0.9, 0.5, 0.2])
    given = graph(make)
    kept = []
    alive = torch.ones(EDGES.shape[1], dtype=torch.bool)
    masks = Masks.full(given.weights)

    def score():
        kept.append(hook.loose.detach().clone())
        return next(scores)

    hook = GraphMasks(masks, EDGES, alive, score=score)
    with weighted_edges(given.model, EDGES, hook.edges_now):
        given.train([hook])
    assert torch.equal(hook.edge_masks, kept[1])
    validated = graph(make)
    assert search(validated, validation=TASK.test).masks.kept


def test_mistakes_speak(make):
    with pytest.raises(PruneError, match="need an edge list"):
        apply(METHODS["ugs"], make())
    given = make(0.5, model=GAT(8, 3), data=TASK.train, recipe=replace(RECIPE, epochs=1))
    with pytest.raises(PruneError, match="first: GATConv takes no edge_weight"):
        apply(METHODS["ugs"], given)
    assert edges_of(TASK.train[0]) is EDGES
    for edges, keep, words in (
        (EDGES.float(), EDGES[0] > 0, r"\(2, edges\) of integers"),
        (EDGES, (EDGES[0] > 0)[:-1], "is as many booleans"),
        (EDGES, EDGES[0], "is as many booleans"),
    ):
        with pytest.raises(PruneError, match=words):
            KeptEdges(edges, keep)


def test_files_that_are_no_edges_say_so(tmp_path):
    with pytest.raises(PruneError, match="cannot read edges"):
        KeptEdges.load(tmp_path / "none")
    (tmp_path / "odd").write_bytes(b"odd")
    with pytest.raises(PruneError, match="cannot read edges"):
        KeptEdges.load(tmp_path / "odd")
    Masks({"weight": torch.ones(2, dtype=torch.bool)}).save(tmp_path / "masks")
    with pytest.raises(PruneError, match="not edges and which of them stay"):
        KeptEdges.load(tmp_path / "masks")
