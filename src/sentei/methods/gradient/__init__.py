"""Methods that rank weights by gradients and curvature."""

from sentei.methods.base import Method
from sentei.methods.gradient.adam_fisher import adam_fisher
from sentei.methods.gradient.force import force, grasp_it, iter_snip
from sentei.methods.gradient.grasp import grasp
from sentei.methods.gradient.layerwise import l_obs, obc
from sentei.methods.gradient.ntk_sap import ntk_sap
from sentei.methods.gradient.ntt import ntt
from sentei.methods.gradient.obd import fisher_diag, obd
from sentei.methods.gradient.obs import obs
from sentei.methods.gradient.snip import snip
from sentei.methods.gradient.synflow import synflow
from sentei.methods.gradient.taylor import (
    taylor_abs,
    taylor_act,
    taylor_gate,
    taylor_joint,
    taylor_second,
    taylor_sq,
)
from sentei.methods.gradient.woodfisher import woodfisher

__all__ = ["GRADIENT"]

GRADIENT: dict[str, Method] = {
    "adam-fisher": adam_fisher,
    "fisher-diag": fisher_diag,
    "force": force,
    "grasp": grasp,
    "grasp-it": grasp_it,
    "iter-snip": iter_snip,
    "l-obs": l_obs,
    "ntk-sap": ntk_sap,
    "ntt": ntt,
    "obc": obc,
    "obd": obd,
    "obs": obs,
    "snip": snip,
    "synflow": synflow,
    "taylor-abs": taylor_abs,
    "taylor-act": taylor_act,
    "taylor-gate": taylor_gate,
    "taylor-joint": taylor_joint,
    "taylor-second": taylor_second,
    "taylor-sq": taylor_sq,
    "woodfisher": woodfisher,
}
