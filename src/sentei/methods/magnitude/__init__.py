"""Methods that rank weights by their size, and their close relatives."""

from sentei.methods.base import Method
from sentei.methods.magnitude.agp import agp
from sentei.methods.magnitude.clip_q import clip_q
from sentei.methods.magnitude.dynamic_network_surgery import dynamic_network_surgery
from sentei.methods.magnitude.gale_gmp import gale_gmp
from sentei.methods.magnitude.han_magnitude import han_magnitude
from sentei.methods.magnitude.l0_hard_concrete import l0_hard_concrete
from sentei.methods.magnitude.lamp import lamp
from sentei.methods.magnitude.leap import leap
from sentei.methods.magnitude.movement_pruning import movement_pruning, soft_movement
from sentei.methods.magnitude.narang_gradual_rnn import narang_gradual_rnn
from sentei.methods.magnitude.pqi_sap import pqi_sap
from sentei.methods.magnitude.random import random_pruning
from sentei.methods.magnitude.single_shot_pretrained import single_shot_pretrained
from sentei.methods.magnitude.sparsegpt import sparsegpt
from sentei.methods.magnitude.variational_dropout import variational_dropout
from sentei.methods.magnitude.wanda import wanda

__all__ = ["MAGNITUDE"]

MAGNITUDE: dict[str, Method] = {
    "agp": agp,
    "clip-q": clip_q,
    "dynamic-network-surgery": dynamic_network_surgery,
    "gale-gmp": gale_gmp,
    "han-magnitude": han_magnitude,
    "l0-hard-concrete": l0_hard_concrete,
    "lamp": lamp,
    "leap": leap,
    "movement-pruning": movement_pruning,
    "narang-gradual-rnn": narang_gradual_rnn,
    "pqi-sap": pqi_sap,
    "random": random_pruning,
    "single-shot-pretrained": single_shot_pretrained,
    "soft-movement": soft_movement,
    "sparsegpt": sparsegpt,
    "variational-dropout": variational_dropout,
    "wanda": wanda,
}
