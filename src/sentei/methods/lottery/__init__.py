"""Lottery tickets, supermasks, and training that stays sparse throughout."""

from sentei.methods.base import Method
from sentei.methods.lottery.bert_tickets import bert_tickets
from sentei.methods.lottery.early_bird import early_bird
from sentei.methods.lottery.edge_popup import edge_popup
from sentei.methods.lottery.learned_supermask import learned_supermask
from sentei.methods.lottery.lr_rewind import lr_rewind
from sentei.methods.lottery.lth_generative import lth_generative
from sentei.methods.lottery.lth_imp import lth_imp
from sentei.methods.lottery.lth_rewind import lth_rewind
from sentei.methods.lottery.rethinking_value import rethinking_value
from sentei.methods.lottery.rigl import rigl
from sentei.methods.lottery.rst import rst
from sentei.methods.lottery.set import set_
from sentei.methods.lottery.structural_tickets import refill, refill_plus, regroup
from sentei.methods.lottery.supermask import supermask
from sentei.methods.lottery.ugs import ugs

__all__ = ["LOTTERY"]

LOTTERY: dict[str, Method] = {
    "lth-imp": lth_imp,
    "lth-rewind": lth_rewind,
    "lr-rewind": lr_rewind,
    "early-bird": early_bird,
    "supermask": supermask,
    "learned-supermask": learned_supermask,
    "edge-popup": edge_popup,
    "rst": rst,
    "lth-generative": lth_generative,
    "bert-tickets": bert_tickets,
    "ugs": ugs,
    "refill": refill,
    "refill-plus": refill_plus,
    "regroup": regroup,
    "rethinking-value": rethinking_value,
    "set": set_,
    "rigl": rigl,
}
