"""Methods that rank weights by their size, and their close relatives."""

from sentei.methods.base import Method
from sentei.methods.magnitude.agp import agp
from sentei.methods.magnitude.dynamic_network_surgery import dynamic_network_surgery
from sentei.methods.magnitude.gale_gmp import gale_gmp
from sentei.methods.magnitude.han_magnitude import han_magnitude
from sentei.methods.magnitude.lamp import lamp
from sentei.methods.magnitude.movement_pruning import movement_pruning, soft_movement
from sentei.methods.magnitude.narang_gradual_rnn import narang_gradual_rnn
from sentei.methods.magnitude.random import random_pruning
from sentei.methods.magnitude.single_shot_pretrained import single_shot_pretrained
from sentei.methods.magnitude.sparsegpt import sparsegpt
from sentei.methods.magnitude.wanda import wanda

__all__ = ["MAGNITUDE"]

MAGNITUDE: dict[str, Method] = {
    "agp": agp,
    "dynamic-network-surgery": dynamic_network_surgery,
    "gale-gmp": gale_gmp,
    "han-magnitude": han_magnitude,
    "lamp": lamp,
    "movement-pruning": movement_pruning,
    "narang-gradual-rnn": narang_gradual_rnn,
    "random": random_pruning,
    "single-shot-pretrained": single_shot_pretrained,
    "soft-movement": soft_movement,
    "sparsegpt": sparsegpt,
    "wanda": wanda,
}
