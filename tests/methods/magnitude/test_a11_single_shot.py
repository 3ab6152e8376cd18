import copy

import pytest
import torch

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.magnitude.single_shot_pretrained import SCORES
from tests.methods.magnitude.nets import setting

METHOD = METHODS["single-shot-pretrained"]


@pytest.mark.parametrize("score", SCORES)
def test_the_head_is_untouched_and_no_step_is_taken_before_the_mask(score):
    given, trained = setting(0.25, protect=("4",)), []
    train = given.train

    def watched(*args, masks=None, **options):
        trained.append(masks)
        # Weights of the pre-trained network, masked, and nothing else.
        for name, weight in given.weights.items():
            assert torch.equal(weight.detach(), given.initial[name] * masks[name])
        assert torch.equal(given.model[4].weight, given.initial["4.weight"])
        return train(*args, masks=masks, **options)

    given.train = watched
    outcome = apply(METHOD, given, score=score)
    assert len(trained) == 1 and outcome.masks.equal(trained[0])
    assert set(outcome.masks) == {"0.weight", "2.weight"}
    assert outcome.kept == round(0.25 * outcome.weights)


@pytest.mark.parametrize("score,same", [(s, s != "gradient") for s in SCORES])
def test_masks_do_not_depend_on_labels_unless_the_score_does(score, same):
    one, two = setting(0.25), setting(0.25)
    x, y = two.data
    two.data = (x, copy.deepcopy(y)[torch.randperm(len(y))])
    masks = [apply(METHOD, given, score=score).masks for given in (one, two)]
    assert masks[0].equal(masks[1]) == same


def test_mistakes_speak():
    with pytest.raises(PruneError, match="unknown score 'magnitud'; closest: 'magnitude'"):
        apply(METHOD, setting(), score="magnitud")
