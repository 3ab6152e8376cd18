"""Graph networks from torch_geometric on one small random graph."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch_geometric.nn as g
from torch import Tensor, nn
from torch_geometric.utils import coalesce, scatter

from .registry import Example, register

NODES, EDGES, FEATURES, CLASSES, EDGE_FEATURES = 12, 20, 9, 5, 4


def graph() -> tuple[Tensor, Tensor]:
    """Node features and an undirected ring with random chords, so that no node is alone."""
    ring = torch.arange(NODES)
    ring = torch.stack([ring, ring.roll(1)])
    edges = torch.cat([ring, torch.randint(NODES, (2, EDGES))], 1)
    return torch.randn(NODES, FEATURES), coalesce(torch.cat([edges, edges.flip(0)], 1))


def pyg(name: str, *extra: Callable[[Tensor], Any]) -> Callable:
    """Register a function or class that makes a model of (x, edge_index, *extra(edge_index))."""

    def wrap(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        @register(f"pyg/{name}", "pyg")
        def build() -> Example:
            x, edge_index = graph()
            return Example(make(), (x, edge_index, *(draw(edge_index) for draw in extra)))

        return make

    return wrap


def edge_features(edge_index: Tensor) -> Tensor:
    return torch.randn(edge_index.size(1), EDGE_FEATURES)


def edge_weights(edge_index: Tensor) -> Tensor:
    return torch.rand(edge_index.size(1)) + 0.1


def graph_of_node(edge_index: Tensor) -> Tensor:
    """Two graphs in one batch; an edge between them does no harm."""
    return (torch.arange(NODES) >= NODES // 2).long()


# --- Ready-made networks -------------------------------------------------------------------------

_MODELS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: g.GCN(FEATURES, 16, 3, CLASSES, dropout=0.1),
    "gcn_batch_norm": lambda: g.GCN(FEATURES, 14, 2, CLASSES, norm="BatchNorm"),
    "gcn_jumping_cat": lambda: g.GCN(FEATURES, 13, 3, CLASSES, jk="cat"),
    "gcn_jumping_max": lambda: g.GCN(FEATURES, 13, 3, CLASSES, jk="max"),
    "gcn_jumping_lstm": lambda: g.GCN(FEATURES, 14, 3, CLASSES, jk="lstm"),
    "graph_sage": lambda: g.GraphSAGE(FEATURES, 15, 2, CLASSES, project=True),
    "graph_sage_max": lambda: g.GraphSAGE(FEATURES, 15, 2, CLASSES, aggr="max"),
    "gin": lambda: g.GIN(FEATURES, 16, 3, CLASSES, norm="LayerNorm"),
    "gat": lambda: g.GAT(FEATURES, 18, 2, CLASSES, heads=3),
    "gat_v2": lambda: g.GAT(FEATURES, 20, 2, CLASSES, heads=4, v2=True),
    "pna": lambda: g.PNA(
        FEATURES,
        14,
        2,
        CLASSES,
        aggregators=["mean", "min", "max", "std"],
        scalers=["identity", "amplification", "attenuation"],
        deg=torch.tensor([0, 0, 1, 3, 5, 2, 1]),
    ),
    "edge_cnn": lambda: g.EdgeCNN(FEATURES, 17, 2, CLASSES),
    "graph_unet": lambda: g.GraphUNet(FEATURES, 16, CLASSES, depth=2, pool_ratios=0.5),
    "deep_graph_infomax_encoder": lambda: g.Sequential(
        "x, edge_index",
        [
            (g.GCNConv(FEATURES, 16), "x, edge_index -> x"),
            nn.PReLU(16),
            (g.GCNConv(16, CLASSES), "x, edge_index -> x"),
        ],
    ),
}
for _name, _make in _MODELS.items():
    pyg(_name)(_make)


@register("pyg/schnet", "pyg")
def _schnet() -> Example:
    model = g.SchNet(
        hidden_channels=18,
        num_filters=14,
        num_interactions=2,
        num_gaussians=11,
        interaction_graph=everyone,
    )
    batch = torch.zeros(8, dtype=torch.long)
    return Example(model, (torch.randint(1, 9, (8,)), torch.randn(8, 3), batch))


def everyone(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of atoms: the radius graph of torch_cluster, without it."""
    edge_index = (~torch.eye(pos.size(0), dtype=torch.bool)).nonzero().t()
    return edge_index, (pos[edge_index[0]] - pos[edge_index[1]]).norm(dim=-1)


# --- Stacks of one convolution -------------------------------------------------------------------


class Stack(nn.Module):
    """Two convolutions with an activation between, the most common shape of a graph network."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.conv1, self.conv2 = first, second

    def forward(self, x, edge_index, *extra):
        return self.conv2(F.elu(self.conv1(x, edge_index, *extra)), edge_index, *extra)


def _mlp(i: int, hidden: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(i, hidden), nn.ReLU(), nn.Linear(hidden, o))


_STACKS: dict[str, Callable[[], nn.Module]] = {
    "gat_concatenated_heads": lambda: Stack(
        g.GATConv(FEATURES, 6, heads=3), g.GATConv(18, CLASSES, heads=2, concat=False)
    ),
    "gat_v2_shared": lambda: Stack(
        g.GATv2Conv(FEATURES, 7, heads=2, share_weights=True), g.GATv2Conv(14, CLASSES)
    ),
    "transformer": lambda: Stack(
        g.TransformerConv(FEATURES, 8, heads=2, beta=True), g.TransformerConv(16, CLASSES)
    ),
    "cheb": lambda: Stack(g.ChebConv(FEATURES, 16, K=3), g.ChebConv(16, CLASSES, K=2)),
    "graph_conv": lambda: Stack(g.GraphConv(FEATURES, 16), g.GraphConv(16, CLASSES, aggr="mean")),
    "tag": lambda: Stack(g.TAGConv(FEATURES, 14, K=2), g.TAGConv(14, CLASSES, K=3)),
    "arma": lambda: Stack(
        g.ARMAConv(FEATURES, 14, num_stacks=3, num_layers=2), g.ARMAConv(14, CLASSES)
    ),
    "sg": lambda: Stack(g.SGConv(FEATURES, 14, K=2), g.SGConv(14, CLASSES)),
    "cluster_gcn": lambda: Stack(g.ClusterGCNConv(FEATURES, 16), g.ClusterGCNConv(16, CLASSES)),
    "le": lambda: Stack(g.LEConv(FEATURES, 16), g.LEConv(16, CLASSES)),
    "feast": lambda: Stack(g.FeaStConv(FEATURES, 14, heads=3), g.FeaStConv(14, CLASSES)),
    "film": lambda: Stack(g.FiLMConv(FEATURES, 16), g.FiLMConv(16, CLASSES)),
    "super_gat": lambda: Stack(g.SuperGATConv(FEATURES, 7, heads=2), g.SuperGATConv(14, CLASSES)),
    "gated_residual": lambda: Stack(
        g.ResGatedGraphConv(FEATURES, 16), g.ResGatedGraphConv(16, CLASSES)
    ),
    "gated_graph": lambda: Stack(g.GatedGraphConv(13, num_layers=2), nn_graph(13)),
    "general": lambda: Stack(
        g.GeneralConv(FEATURES, 16, attention=True, heads=2), g.GeneralConv(16, CLASSES)
    ),
    "mf": lambda: Stack(g.MFConv(FEATURES, 16, max_degree=6), g.MFConv(16, CLASSES)),
    "eg": lambda: Stack(
        g.EGConv(FEATURES, 16, num_heads=4, num_bases=3), g.EGConv(16, 6, num_heads=2)
    ),
    "gen": lambda: Stack(g.GENConv(FEATURES, 16), g.GENConv(16, CLASSES, aggr="powermean")),
    "edge_mlp": lambda: Stack(
        g.EdgeConv(_mlp(2 * FEATURES, 21, 14)), g.EdgeConv(_mlp(28, 17, CLASSES), aggr="mean")
    ),
    "gin_raw": lambda: Stack(
        g.GINConv(_mlp(FEATURES, 21, 14), train_eps=True), g.GINConv(_mlp(14, 17, CLASSES))
    ),
}


def nn_graph(i: int) -> nn.Module:
    return g.GCNConv(i, CLASSES)


for _name, _make in _STACKS.items():
    pyg(f"stack_{_name}")(_make)


@pyg("gcn_edge_weight", edge_weights)
def _gcn_edge_weight() -> nn.Module:
    return Stack(g.GCNConv(FEATURES, 16), g.GCNConv(16, CLASSES))


@pyg("gine", edge_features)
def _gine() -> nn.Module:
    return Stack(
        g.GINEConv(_mlp(FEATURES, 21, 14), edge_dim=EDGE_FEATURES),
        g.GINEConv(_mlp(14, 17, CLASSES), edge_dim=EDGE_FEATURES),
    )


@pyg("gat_edge_features", edge_features)
def _gat_edge_features() -> nn.Module:
    return Stack(
        g.GATConv(FEATURES, 6, heads=3, edge_dim=EDGE_FEATURES),
        g.GATConv(18, CLASSES, edge_dim=EDGE_FEATURES),
    )


@pyg("nn_conv", edge_features)
def _nn_conv() -> nn.Module:
    """The weights of each edge are the output of a network."""
    return Stack(
        g.NNConv(FEATURES, 8, _mlp(EDGE_FEATURES, 11, FEATURES * 8)),
        g.NNConv(8, CLASSES, _mlp(EDGE_FEATURES, 13, 8 * CLASSES)),
    )


# --- Networks written around convolutions --------------------------------------------------------


@pyg("sgc")
class SGC(nn.Module):
    """All propagation comes before the one hidden layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = g.SGConv(FEATURES, 16, K=3), nn.Linear(16, CLASSES)

    def forward(self, x, edge_index):
        return self.head(F.relu(self.conv(x, edge_index))).log_softmax(-1)


@pyg("appnp")
class APPNP(nn.Module):
    """All layers come before the propagation."""

    def __init__(self):
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
        self.propagate = g.APPNP(K=4, alpha=0.1)

    def forward(self, x, edge_index):
        return self.propagate(self.lin2(F.relu(self.lin1(x))), edge_index)


@pyg("gcn2")
class GCNII(nn.Module):
    """Every layer mixes in the first features, so one width runs through the whole network."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
        self.convs = nn.ModuleList(
            g.GCN2Conv(16, alpha=0.1, theta=0.5, layer=k + 1, shared_weights=k % 2 == 0)
            for k in range(3)
        )

    def forward(self, x, edge_index):
        x = start = F.relu(self.stem(x))
        for conv in self.convs:
            x = F.relu(conv(x, start, edge_index))
        return self.head(x)


@pyg("jumping_knowledge")
class JumpingKnowledge(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            [g.GCNConv(FEATURES, 14), g.SAGEConv(14, 11), g.GraphConv(11, 17)]
        )
        self.norms = nn.ModuleList([g.BatchNorm(14), g.LayerNorm(11, mode="node"), g.PairNorm()])
        self.jump, self.head = g.JumpingKnowledge("cat"), nn.Linear(42, CLASSES)

    def forward(self, x, edge_index):
        xs = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, edge_index)))
            xs.append(x)
        return self.head(self.jump(xs))


@pyg("residual_layers")
class ResidualLayers(nn.Module):
    """DeepGCN layers: norm, activation, convolution and a sum."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(FEATURES, 15), nn.Linear(15, CLASSES)
        self.layers = nn.ModuleList(
            g.DeepGCNLayer(g.GENConv(15, 15), g.GraphNorm(15), nn.ReLU(), block)
            for block in ("res+", "res")
        )

    def forward(self, x, edge_index):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x, edge_index)
        return self.head(x)


@pyg("graph_classifier", graph_of_node)
class GraphClassifier(nn.Module):
    """Pooled per graph, by mean and maximum."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = g.GraphConv(FEATURES, 14), g.GraphConv(14, 18)
        self.lin, self.head = nn.Linear(36, 11), nn.Linear(11, 3)

    def forward(self, x, edge_index, batch):
        x = F.relu(self.conv2(F.relu(self.conv1(x, edge_index)), edge_index))
        x = torch.cat([g.global_mean_pool(x, batch, 2), g.global_max_pool(x, batch, 2)], 1)
        return self.head(F.relu(self.lin(x)))


@pyg("attention_pool", graph_of_node)
class AttentionPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = g.GATv2Conv(FEATURES, 7, heads=2)
        self.pool = g.AttentionalAggregation(_mlp(14, 9, 1), nn.Linear(14, 17))
        self.head = nn.Linear(17, 3)

    def forward(self, x, edge_index, batch):
        return self.head(self.pool(F.elu(self.conv(x, edge_index)), batch, dim_size=2))


@pyg("top_k_pool", graph_of_node)
class TopKPool(nn.Module):
    """Nodes are kept by a learned score, which the pooled features are multiplied by."""

    def __init__(self):
        super().__init__()
        self.conv1, self.pool = g.GraphConv(FEATURES, 14), g.TopKPooling(14, ratio=0.5)
        self.conv2, self.head = g.GraphConv(14, 18), nn.Linear(18, 3)

    def forward(self, x, edge_index, batch):
        x = F.relu(self.conv1(x, edge_index))
        x, edge_index, _, batch, _, _ = self.pool(x, edge_index, batch=batch)
        return self.head(g.global_add_pool(F.relu(self.conv2(x, edge_index)), batch, 2))


@pyg("gps")
class GraphTransformer(nn.Module):
    """Local convolution and global attention in one layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
        conv = g.GINConv(_mlp(16, 21, 16))
        self.layer = g.GPSConv(16, conv, heads=4, attn_type="multihead")

    def forward(self, x, edge_index):
        return self.head(self.layer(self.stem(x), edge_index))


@pyg("relational", lambda edge_index: torch.arange(edge_index.size(1)) % 3)
class Relational(nn.Module):
    """Weights per relation, one layer factored into bases and one into blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(FEATURES, 12)
        self.conv1 = g.RGCNConv(12, 15, 3, num_bases=2)
        self.conv2 = g.RGCNConv(15, 9, 3, num_blocks=3)
        self.head = nn.Linear(9, CLASSES)

    def forward(self, x, edge_index, edge_type):
        x = F.relu(self.conv1(self.stem(x), edge_index, edge_type))
        return self.head(F.relu(self.conv2(x, edge_index, edge_type)))


@pyg("heterogeneous", lambda edge_index: torch.randn(7, 6))
class Heterogeneous(nn.Module):
    """Two kinds of nodes with convolutions between them, held in a dictionary."""

    def __init__(self):
        super().__init__()
        self.conv = g.HeteroConv(
            {
                ("user", "knows", "user"): g.GCNConv(FEATURES, 14),
                ("item", "bought_by", "user"): g.SAGEConv((6, FEATURES), 14),
                ("user", "buys", "item"): g.SAGEConv((FEATURES, 6), 11),
            }
        )
        self.user, self.item = nn.Linear(14, CLASSES), nn.Linear(11, 3)

    def forward(self, users, edge_index, items):
        buys = torch.stack([torch.arange(users.size(0)), torch.arange(users.size(0)) % 7])
        edges = {
            ("user", "knows", "user"): edge_index,
            ("user", "buys", "item"): buys,
            ("item", "bought_by", "user"): buys.flip(0),
        }
        out = self.conv({"user": users, "item": items}, edges)
        return self.user(F.relu(out["user"])), self.item(F.relu(out["item"]))


@pyg("link_prediction")
class LinkPrediction(nn.Module):
    """Edges are scored by the inner products of their nodes' variational codes."""

    def __init__(self):
        super().__init__()
        self.conv, self.mu, self.logstd = g.GCNConv(FEATURES, 16), *(
            g.GCNConv(16, 7) for _ in range(2)
        )  # fmt: skip

    def forward(self, x, edge_index):
        x = F.relu(self.conv(x, edge_index))
        mu, logstd = self.mu(x, edge_index), self.logstd(x, edge_index).clamp(max=10)
        z = mu + torch.randn_like(logstd) * logstd.exp() if self.training else mu
        return (z[edge_index[0]] * z[edge_index[1]]).sum(-1), logstd


def nearest(x: Tensor, k: int) -> Tensor:
    """Edges to the k nearest other points: the kNN graph of torch_cluster, without it."""
    far = torch.cdist(x, x) + 1e9 * torch.eye(x.size(0))
    source = far.topk(k, largest=False).indices.flatten()
    return torch.stack([source, torch.arange(x.size(0)).repeat_interleave(k)])


@register("pyg/dgcnn", "pyg")
def _dgcnn() -> Example:
    return Example(DynamicEdges(), (torch.randn(20, 3),))


class DynamicEdges(nn.Module):
    """The graph is found again from each layer's features."""

    def __init__(self):
        super().__init__()
        self.conv1 = g.EdgeConv(_mlp(6, 11, 14), aggr="max")
        self.conv2 = g.EdgeConv(_mlp(28, 21, 18), aggr="max")
        self.head = _mlp(32, 17, CLASSES)

    def forward(self, pos):
        a = self.conv1(pos, nearest(pos, 4))
        b = self.conv2(a, nearest(a, 4))
        return self.head(torch.cat([a, b], 1).amax(0, keepdim=True))


@pyg("pointnet2", lambda edge_index: torch.randn(NODES, 3))
class PointNetPlus(nn.Module):
    """Features and relative positions of neighbours pass a network before the maximum."""

    def __init__(self):
        super().__init__()
        self.conv1 = g.PointNetConv(_mlp(FEATURES + 3, 15, 14), _mlp(14, 11, 13))
        self.conv2 = g.PointTransformerConv(13, 18, _mlp(3, 8, 18), _mlp(18, 10, 18))
        self.head = nn.Linear(18, CLASSES)

    def forward(self, x, edge_index, pos):
        x = F.relu(self.conv1(x, pos, edge_index))
        return self.head(F.relu(self.conv2(x, pos, edge_index)))


class MeanMessage(g.MessagePassing):
    """User-written message passing: a gate from both ends scales the sender's features."""

    def __init__(self, i: int, o: int, edge: int):
        super().__init__(aggr="mean")
        self.value, self.gate, self.edge = nn.Linear(i, o), nn.Linear(2 * i, o), nn.Linear(edge, o)
        self.update_lin = nn.Linear(i + o, o)

    def forward(self, x, edge_index, edge_attr):
        return self.propagate(edge_index, x=x, edge_attr=edge_attr)

    def message(self, x_i, x_j, edge_attr):
        gate = torch.sigmoid(self.gate(torch.cat([x_i, x_j], -1)))
        return gate * (self.value(x_j) + self.edge(edge_attr))

    def update(self, aggregated, x):
        return self.update_lin(torch.cat([x, aggregated], -1))


@pyg("custom_messages", edge_features)
def _custom_messages() -> nn.Module:
    return Stack(MeanMessage(FEATURES, 14, EDGE_FEATURES), MeanMessage(14, CLASSES, EDGE_FEATURES))


@pyg("scatter_by_hand")
class ScatterByHand(nn.Module):
    """Gather, transform, scatter, without any convolution class."""

    def __init__(self):
        super().__init__()
        self.edge, self.node = _mlp(2 * FEATURES, 21, 16), _mlp(FEATURES + 16, 19, CLASSES)

    def forward(self, x, edge_index):
        source, target = edge_index
        messages = self.edge(torch.cat([x[source], x[target]], -1))
        received = scatter(messages, target, dim=0, dim_size=x.size(0), reduce="sum")
        return self.node(torch.cat([x, received], -1))
