"""Methods that rank weights by gradients and curvature."""

from sentei.methods.base import Method
from sentei.methods.gradient.force import force, grasp_it, iter_snip
from sentei.methods.gradient.grasp import grasp
from sentei.methods.gradient.ntk_sap import ntk_sap
from sentei.methods.gradient.obd import fisher_diag, obd
from sentei.methods.gradient.snip import snip
from sentei.methods.gradient.synflow import synflow

__all__ = ["GRADIENT"]

GRADIENT: dict[str, Method] = {
    "fisher-diag": fisher_diag,
    "force": force,
    "grasp": grasp,
    "grasp-it": grasp_it,
    "iter-snip": iter_snip,
    "ntk-sap": ntk_sap,
    "obd": obd,
    "snip": snip,
    "synflow": synflow,
}
