"""`sentei prune`: one run from the unpruned model to the saved, verified and timed small one.

How a run goes, and which file tells it:

    command    from a configuration and a folder to a run; the stages, in order
    checks     what is refused before anything is built
    before     what is refused before anything is trained; the weights that everything starts from
    training   every training of a run, each gone on with after a kill
    evaluating the model on the test data, before, between and after
    rounds     by a criterion: prune, heal, recover, in one round or several
    by_method  by a published method instead
    after      save, verify, time, and the result

What these share lies beside them: `work` (the run they are stages of), `cutting` (one pruning as a
configuration wants it), `healing` (repairs right after one), `targets` (the budget of one round),
`floors` (what every group keeps over all rounds), `facts` (one pruning as JSON), `figures` (the
whole run as JSON), `names` (what was called how before layers went), `telling` (who is told how it
goes).

Every stage leaves its files, then is written into the journal. What is done is never done again;
what was under way when the process died is repeated from the last state on disk, and comes out the
same: orders, noise and scores depend on the seed alone.
"""

from sentei.cli.pruning.checks import check
from sentei.cli.pruning.command import prune
from sentei.cli.pruning.cutting import cut
from sentei.cli.pruning.facts import facts_of
from sentei.cli.pruning.healing import HEALS
from sentei.cli.pruning.rounds import features_left
from sentei.cli.pruning.targets import round_target
from sentei.cli.pruning.telling import Quiet, Talking

__all__ = [
    "HEALS", "Quiet", "Talking", "check", "cut", "facts_of", "features_left", "prune",
    "round_target",
]  # fmt: skip
