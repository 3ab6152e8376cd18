"""`sentei prune` and what is done with its folder afterwards."""

import copy
import json
import re
import shutil

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

import sentei as package
from sentei.cli.comparing import summary
from sentei.cli.config import Config, read_config
from sentei.cli.folder import read_result
from sentei.cli.opened import Opened
from sentei.cli.pruning import features_left, healing, prune
from sentei.cli.pruning.floors import cut_above
from sentei.sources import Source
from tests.cli.helpers import error, sentei, widest


@pytest.fixture(scope="module")
def run(home):
    """One finished run, in two rounds."""
    out = home / "run"
    text = sentei(
        "prune", f"{home}/mine.py:net", "--data", f"{home}/mine.py:data", "-o", out,
        "--train-epochs", "8", "--epochs", "4", "--rounds", "2", "-t", "macs=50%",
        "-c", "taylor", "--batch-size", "16", "--heal", "compensate",
    )  # fmt: skip
    return out, text


def test_a_run_says_what_it_does_and_keeps_it(run):
    out, text = run
    stages = [line.split()[0] for line in text.partition("\n\n")[0].splitlines() if line[0] != " "]
    assert stages == [
        "model", "data", "train", "baseline", "prune", "pruned", "recover", "prune", "pruned",
        "recover", "final", "save", "verify", "time", "report",
    ], text  # fmt: skip
    assert widest(text) <= 80
    result = read_result(out)
    assert result["cost"]["after"]["macs"] <= result["cost"]["before"]["macs"] / 2
    assert result["reached"]["macs"] <= result["asked"]["macs"]
    assert 0 <= result["final"]["value"] <= 1 and result["baseline"]["count"] == 30
    assert [t["stage"] for t in result["training"]] == ["train", "recover-1", "recover-2"]
    assert all(check["passed"] for check in result["verification"])
    assert not (out / "work").exists()


def test_the_folder_is_a_model(run):
    out, _ = run
    model = package.load(out, trust=True)
    assert model(torch.zeros(2, 6)).shape == (2, 3)
    assert sum(p.numel() for p in model.parameters()) == read_result(out)["cost"]["after"]["params"]


def test_the_saved_configuration_repeats_the_run(run, home):
    out, _ = run
    again = home / "again"
    sentei("prune", "--config", out / "config.yaml", "--out", again)
    a, b = (load_file(folder / "model" / "model.safetensors") for folder in (out, again))
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert (out / "config.yaml").read_text() == (again / "config.yaml").read_text()


def test_an_earlier_run_is_a_model_to_prune_on(run, home):
    out, _ = run
    sentei(
        "prune", out, "--trust", "--data", f"{home}/mine.py:data", "-t", "60%", "--epochs", "1",
        "-o", home / "further",
    )  # fmt: skip
    before, after = (read_result(f)["cost"]["after"]["macs"] for f in (out, home / "further"))
    assert after <= 0.6 * before
    assert "bit for bit" in sentei("verify", home / "further", "--trust")


def test_verify_finds_what_was_changed(run, home):
    out, _ = run
    assert sentei("verify", out, "--trust").count("✓") == 4
    assert "--trust" in error("verify", out)
    weights = out / "model" / "model.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert "✗ artefact" in sentei("verify", out, "--trust", code=3)
    finally:
        weights.write_bytes(whole)
    result = out / "result.json"
    text = result.read_text()
    content = json.loads(text)
    name = next(iter(content["units"][0]))
    content["units"][0][name] = "0"
    try:
        result.write_text(json.dumps(content))
        assert "✗ cut" in sentei("verify", out, "--trust", code=3)
    finally:
        result.write_text(text)


def test_a_folder_that_was_edited_is_one_line(run, home):
    out, _ = run
    broken = home / "edited"
    shutil.copytree(out, broken)
    result, journal = broken / "result.json", broken / "journal.json"
    whole, stages = result.read_text(), json.loads(journal.read_text())
    result.write_text(json.dumps({k: v for k, v in json.loads(whole).items() if k != "cost"}))
    for command in ("report", "compare"):
        assert "result.json lacks 'cost'" in error(command, broken)
    result.unlink()  # the figures are in the journal, too
    sentei("prune", "--resume", "-o", broken)
    assert read_result(broken)["cost"] == json.loads(whole)["cost"]
    stages["stages"]["start"] = 3
    journal.write_text(json.dumps(stages))
    assert "journal.json is damaged" in error("prune", "--resume", "-o", broken)


def test_report_compare_and_export(run, home):
    out, _ = run
    assert "asked for: macs at most" in sentei("report", out)
    result = read_result(out)
    result["final"]["value"] = result["baseline"]["value"] - 0.09

    def shown():
        console = Console(width=80)
        with console.capture() as text:
            console.print(summary(result))
        return " ".join(text.get().split())

    assert "points are lost" not in shown()
    result["final"]["value"] -= 0.02
    assert "More than 10 points are lost. What helps: more --epochs, --rounds" in shown()
    table = sentei("compare", out, out)
    assert table.count("taylor, global") == 2 and widest(table) <= 80
    assert len(json.loads(sentei("compare", out, "--json"))) == 1
    assert "pt2" in sentei("export", out, "--to", "pt2", "--trust", "-o", home / "m.pt2")
    assert "cannot export to 'onx'; closest" in error("export", out, "--to", "onx", "--trust")
    to = ("--to", "pt2", "-o", home / "m2.pt2")
    assert "pt2" in sentei("export", out / "model", "--trust", *to)  # the run's example is known
    for command in (("export", out, *to), ("plan", out, "-t", "50%"), ("inspect", out)):
        assert error(*command).endswith("if you trust it, add --trust")
    alone = shutil.copytree(out / "model", home / "artefact")
    assert "Give --input, such as 1x3x32x32" in error("export", alone, "--trust", *to)
    assert "pt2" in sentei("export", alone, "--trust", "--input", "2x6", *to)


@pytest.mark.parametrize("method", ["han-magnitude", "snip", "lth-imp"])
def test_methods_with_masks(home, method):
    out = home / method
    text = sentei(
        "prune", f"{home}/mine.py:net", "-d", f"{home}/mine.py:data", "-m", method, "--sparsity",
        "0.75", "--train-epochs", "2", "--epochs", "2", "-o", out,
    )  # fmt: skip
    assert "weights stay" in text and widest(text) <= 80
    masks = load_file(out / "masks.safetensors")
    kept = sum(int(m.sum()) for m in masks.values())
    assert (
        kept
        == read_result(out)["masks"]["kept"]
        == round(0.25 * sum(m.numel() for m in masks.values()))
    )
    weights = load_file(out / "model" / "model.safetensors")
    assert all(not weights[n][~m].any() for n, m in masks.items())
    verdict = read_result(out)["zeros"]  # measured here
    assert "faster on this machine" in verdict and " ".join(verdict.split()) in (
        " ".join(text.split())
    )
    assert "times as fast" not in text


def test_a_method_that_removes_units(home):
    out = home / "channels"
    sentei(
        "prune", f"{home}/mine.py:net", "-d", f"{home}/mine.py:data", "-m", "channel-l1", "-t",
        "params=50%", "--epochs", "1", "-o", out,
    )  # fmt: skip
    result = read_result(out)
    assert result["cost"]["after"]["params"] <= result["cost"]["before"]["params"] / 2
    assert result["groups"] and result["masks"] is None


def test_whole_layers_go_too(home):
    out = home / "depth"
    sentei(
        "prune", f"{home}/mine.py:residual", "-d", f"{home}/mine.py:data", "-c", "taylor",
        "-t", "20%", "--depth", "--epochs", "1", "-o", out,
    )  # fmt: skip
    assert read_result(out)["layers"][0]
    assert sentei("verify", out, "--trust").count("✓") == 4


def test_what_is_renumbered_keeps_its_name_in_the_figures(home):
    """When a layer of a list goes, those behind it are called otherwise in the smaller model."""
    out = home / "numbers"
    text = sentei(
        "prune", f"{home}/mine.py:encoder", "-d", f"{home}/mine.py:data", "-c", "taylor", "-t",
        "25%", "--depth", "--rounds", "2", "--epochs", "1", "-o", out,
    )  # fmt: skip
    result = read_result(out)
    gone, taken = result["gone"], [name for step in result["layers"] for name in step]
    assert len(gone) == len(set(gone)) > 1 and gone != taken
    assert ", ".join(gone) in " ".join(text.split())
    wide = {f"layers.{i}.a": 6 + 2 * i for i in range(4)} | {"first": 8}
    assert all(g["before"] == wide[name] for name, g in result["groups"].items())
    left = [name for name in result["groups"] if name != "first"]
    assert not {name.removesuffix(".a") for name in left} & set(gone)
    assert sentei("verify", out, "--trust").count("✓") == 4


def healed(home, *how):
    """A run on digits, healed in some ways and then verified."""
    out = home / "-".join(["heal", *how])
    sentei(
        "prune", f"{home}/mine.py:digits", "-d", "digits", "--train-epochs", "2", "--epochs", "0",
        "-t", "40%", "--calibration", "256", "-o", out, *(o for h in how for o in ("--heal", h)),
    )  # fmt: skip
    assert sentei("verify", out, "--trust").count("✓") == 4
    return out


@pytest.fixture(scope="module")
def bare(home):
    return healed(home)


@pytest.mark.parametrize("heal", ["reconstruct", "merge", "compensate", "recalibrate"])
def test_every_way_to_heal_on_digits(home, bare, heal):
    """Against no healing: other weights of the same units, and better ones where data was seen."""
    out = healed(home, heal)
    result, without = read_result(out), read_result(bare)
    assert result["units"] == without["units"] and result["config"]["heal"] == [heal]
    a, b = (load_file(f / "model" / "model.safetensors") for f in (out, bare))
    assert not all(torch.equal(a[n], b[n]) for n in a)
    if heal != "merge":  # which sees no data, and promises nothing about any
        assert result["final"]["loss"] < without["final"]["loss"]


def test_softening_changes_no_answer_and_keeps_lengths(home, bare, monkeypatch):
    told = []
    real = healing.reconstruct
    monkeypatch.setattr(
        healing, "reconstruct", lambda *a, **k: told.append(k["keep_norms"]) or real(*a, **k)
    )
    result, without = read_result(healed(home, "soften")), read_result(bare)
    assert result["final"]["value"] == without["final"]["value"]
    assert read_result(healed(home, "reconstruct", "soften"))["units"] == without["units"]
    assert told == [True]


def test_distillation_with_options(home):
    def distilled(out, *more):
        sentei(
            "prune", f"{home}/mine.py:residual", "-d", f"{home}/mine.py:data", "--train-epochs",
            "2", "--epochs", "2", "--rounds", "2", "-t", "50%", "--distill", "-o", home / out,
            *more,
        )  # fmt: skip
        return load_file(home / out / "model" / "model.safetensors"), read_result(home / out)

    plain, _ = distilled("distill")
    # Without the logits' term what is left is the loss: as if nothing had been distilled.
    none, _ = distilled("distill-none", "--distill-weight", "0")
    other, facts = distilled(
        "distill-more", "--distill-temperature", "2", "--distill-weight", "0.5",
        "--distill-features", "first,blocks.0.0",
    )  # fmt: skip
    assert plain.keys() == none.keys() == other.keys()
    for a, b in ((plain, none), (plain, other), (none, other)):
        assert not all(torch.equal(a[n], b[n]) for n in a)
    assert facts["config"]["distill_features"] == ["first", "blocks.0.0"]
    assert facts["groups"]["blocks.0.0"]["after"] < 8  # cut, and still compared
    words = error(
        "prune", f"{home}/mine.py:residual", "-d", f"{home}/mine.py:data", "-t", "50%",
        "--distill-weight", "2", "-o", home / "no",
    )  # fmt: skip
    assert "--distill-weight goes with --distill" in words
    words = error(
        "prune", f"{home}/mine.py:residual", "-d", f"{home}/mine.py:data", "-t", "50%",
        "--distill", "--distill-features", "blocks.7", "--epochs", "1", "-o", home / "no",
    )  # fmt: skip
    assert "there is no module 'blocks.7'; closest: 'blocks.2'" in words


def test_features_that_are_left_of_features():
    def net():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 2))

    model, x = net(), torch.randn(3, 4)
    package.delete_units(model, "0", [0, 3, 9], x)
    teacher = copy.deepcopy(model)
    package.delete_units(model, "0", [1, 5], x)
    left = features_left(teacher, model, ["0", "1", "2"])
    assert left.keys() == {"0"} and left["0"].tolist() == [0, 2, 3, 4, 6]
    assert torch.equal(teacher[0](x)[:, left["0"]], model[0](x))


def test_without_data_it_prunes_and_says_what_it_can(home):
    out = home / "bare"
    text = sentei(
        "prune", f"{home}/mine.py:net", "--input", "1x6", "-t", "50%", "--distill", "-o", out,
        code=1,
    )  # fmt: skip
    assert "--distill needs data" in text
    text = sentei("prune", f"{home}/mine.py:net", "--input", "1x6", "-t", "50%", "-o", out)
    assert "accuracy" not in text and read_result(out)["final"] is None
    assert "nothing is evaluated, and nothing trained" in text


def test_predicted_and_measured_times_are_shown(home):
    out = home / "timed"
    text = sentei(
        "prune", f"{home}/mine.py:net", "--input", "1x6", "-t", "50%", "--round-to", "auto",
        "-o", out,
    )  # fmt: skip
    (timing,) = read_result(out)["timing"]
    assert timing["predicted"] > 0 and timing["after"] > 0
    words = " ".join(text.split())
    assert words.count("predicted, ") == 2 and len(re.findall(r"\d [µm]?s measured", words)) == 2
    assert " predicted for what is left" in (out / "report.html").read_text()


def test_options_of_a_file_and_of_the_command_line(home):
    file = home / "options.yaml"
    file.write_text(
        yaml.safe_dump({"model": f"{home}/mine.py:net", "input": "1x6", "target": {"macs": 0.5}})
    )
    sentei("prune", "--config", file, "-t", "params=60%", "-o", home / "yaml", "--seed", "3")
    with file.open("a") as more:
        more.write("epochs: 3\n")  # which is of no matter to a plan
    assert "parameters" in sentei("plan", "--config", file)
    config = yaml.safe_load((home / "yaml" / "config.yaml").read_text())
    assert config["target"] == {"params": 0.6} and config["seed"] == 3
    assert config["device"] != "auto" and config["threads"] >= 1


def test_a_file_may_say_it_as_the_command_line_does(tmp_path):
    file = tmp_path / "c.yaml"

    def read(text):
        file.write_text(f"model: x\n{text}\n")
        return Config.of(read_config(file))

    for text in ("50%", "0.5", "macs=50%", "{macs: 50%}", '{macs: "0.5"}', "[macs=50%]"):
        assert read(f"target: {text}").target == {"macs": 0.5}, text
    assert read("target: {params: 2M, latency: 10ms}").target == {
        "params": 2_000_000,
        "latency": "10ms",
    }
    assert read("heal: merge,recalibrate").heal == ["merge", "recalibrate"]
    assert read("protect: layer1.*").protect == ["layer1.*"]
    assert read("model_options: width=8").model_options == {"width": 8}
    with pytest.raises(package.PruneError, match=r"--target mcas=50%: no budget 'mcas'"):
        read("target: mcas=50%")
    file.write_text("model: x\nmodel_options: 3\n")
    assert "option model_options" in error("plan", "--config", file)


def test_it_is_a_function(home):
    config = Config(model=f"{home}/mine.py:net", input="1x6", target={"macs": 0.5})
    result = prune(config, home / "function")
    assert result["reached"]["macs"] <= result["asked"]["macs"]


def test_mistakes_are_one_line_and_leave_nothing(home, tmp_path):
    model, data = f"{home}/mine.py:net", f"{home}/mine.py:data"
    out, units = ("-o", tmp_path / "new"), ("-d", data, "--sparsity")
    for args, words in {
        ("prune", model): "Give --out",
        ("prune", *out): "which model?",
        ("prune", model, *out): "how small? Give --target",
        ("prune", model, *out, "-t", "mcas=50%"): "no budget 'mcas'; closest: 'macs'",
        ("prune", model, *out, "-t", "macs=150%"): "above 0 and at most 1",
        ("prune", model, *out, "-t", "50%", "-c", "tailor"): "closest: 'taylor'",
        ("prune", model, *out, "-t", "50%", "-a", "globl"): "closest: 'global'",
        ("prune", model, *out, "-t", "50%", "-d", data, "--heal", "merg"): "closest: 'merge'",
        ("prune", model, *out, "-m", "snipp", "--sparsity", "0.9"): "closest: 'snip'",
        ("prune", model, *out, "-m", "snip", "--sparsity", "0.9"): "needs data",
        ("prune", model, *out, "-m", "snip", "-d", data): "give --sparsity",
        ("prune", model, *out, "-m", "snip", "-d", data, "--sparsity", "1.5"): "option sparsity",
        ("prune", model, *out, "-m", "snip", "-d", data, "--option", "x=1"): "no option 'x'",
        ("prune", model, *out, "-m", "ugs", "-d", data, "--sparsity", "0.5"): "edges of a graph",
        ("prune", model, *out, "-t", "50%"): "what inputs does",
        ("prune", model, *out, "-t", "50%", "--input", "1x7"): "does not run on its example",
        ("prune", model, *out, "-t", "50%", "--set", "width"): "--set wants NAME=VALUE",
        ("prune", model, *out, "-t", "50%", "--set", "wdith=3"): "mine.py:",
        ("prune", "timm:resnet81", *out, "-t", "50%"): "closest: 'resnet18'",
        ("prune", model, *out, "-t", "50%", "-d", data, "--device", "cuda:9"): "--device cuda:9",
        ("prune", model, *out, "--resume"): "how small?",
        ("prune", "--resume", *out): "holds no run to go on with",
        ("prune", "--config", tmp_path / "no.yaml", *out): "no.yaml: No such file",
        ("plan", model, "--input", "1x6", "-t", "macs=1%"): "budget out of reach",
        ("report", tmp_path / "nowhere"): "there is no folder",
        ("methods", "snipp"): "closest: 'snip'",
        ("methods", "--family", "lotery"): "closest: 'lottery'",
        ("verify", home): "holds no run",
        ("plan", model, "--input", "1x6", "-t", "macs=1.5"): "above 1 is a whole number",
        # Said before anything is trained, not after.
        ("prune", model, *out, "-t", "1%", "-d", data, "--train-epochs", "1"): "out of reach",
        ("prune", model, *out, "-t", "50%,latency=1ms", "-d", data, "--rounds", "2"): "as a share",
        ("prune", model, *out, "-t", "50%", "--optimizer", "adma"): "closest: 'adam'",
        ("prune", model, *out, "-t", "50%", "--schedule", "cosin"): "closest: 'cosine'",
        ("prune", model, *out, "-t", "50%", "-d", data, "--augment"): "only folders of images",
        ("prune", model, *out, "-t", "50%", "--round-epochs", "3"): "goes with --rounds",
        ("prune", f"{home}/mine.py:frozen", *out, "-t", "50%", "-d", data): "nothing to train",
        ("prune", model, *out, "-t", "50%", "--option", "a=1"): "goes with a --method",
        ("prune", model, *out, "-t", "50%", "--input", "1x6", "--lr", "0.1"): "--lr needs data",
        ("prune", model, *out, "-t", "50%", "--input", "1x6", "--epochs", "3"): "--epochs needs",
        ("prune", model, *out, "-t", "50%", "-d", data, "--train-lr", "1"): "with --train-epochs",
        ("prune", model, *out, "-t", "50%", "-d", data, "--distill", "--epochs", "0"): "is 0",
        ("prune", model, *out, "-m", "channel-l1", *units, "0.5"): "give --target",
        ("prune", model, *out, "-m", "snip", *units, "0.5", "-t", "50%"): "leave out --target",
        ("prune", model, *out, "-m", "snip", *units, "0.5", "--distill"): "goes without --method",
    }.items():
        assert words in error(*args), args
    assert not (tmp_path / "new").exists()


def test_a_yaml_file_with_mistakes(home, tmp_path):
    file = tmp_path / "c.yaml"
    for text, words in {
        "model: [": "line",
        "- a": "must hold options",
        "model: x\ntagret: {macs: 0.5}": "no option 'tagret'; closest: 'target'",
        "model: x\nrounds: 0": "option rounds:",
        "target: {macs: 0.5}": "which model?",
    }.items():
        file.write_text(text)
        assert words in error("prune", "--config", file, "-o", tmp_path / "o"), text


def test_a_folder_in_use_is_left_alone(run, home, tmp_path):
    out, _ = run
    model = f"{home}/mine.py:net"
    assert "holds a run already; go on with --resume" in error(
        "prune", model, "--input", "1x6", "-t", "50%", "-o", out
    )
    (tmp_path / "thesis.tex").write_text("…")
    assert "not empty ('thesis.tex')" in error(
        "prune", model, "--input", "1x6", "-t", "50%", "-o", tmp_path
    )
    assert "started with other options (data, target" in error(
        "prune", model, "-t", "30%", "--resume", "-o", out
    )
    assert "asked for: macs" in sentei("prune", "--resume", "-o", out)  # nothing left to do
    half = shutil.copytree(out, tmp_path / "half done")
    (half / "result.json").unlink()
    assert f"--out '{half}'" in error("report", half)  # as a shell takes it


def test_model_files_that_misbehave(home):
    rest = ("--input", "1x6", "-t", "50%")
    assert "mine.py:93: RuntimeError: no luck today" in error(
        "plan", f"{home}/mine.py:raises", *rest
    )
    assert "SystemExit" in error("plan", f"{home}/mine.py:leaves", *rest)
    printed = json.loads(
        sentei("plan", f"{home}/mine.py:prints", *rest, "--json").partition("hello")[0]
    )
    assert printed["reached"]["macs"] <= printed["asked"]["macs"]


def test_debug_shows_where(home):
    text = sentei("--debug", "plan", f"{home}/mine.py:raises", "-t", "50%", code=1)
    assert "Traceback" in text and "no luck today" in text


def test_a_floor_holds_over_all_rounds(home):
    """Half of what the run found, however many rounds take a share of what is left."""
    out = home / "floor"
    sentei(
        "prune", f"{home}/mine.py:net", "--input", "1x6", "-t", "macs=60%", "--rounds", "4",
        "--min-fraction", "0.5", "-o", out,
    )  # fmt: skip
    result = read_result(out)
    assert all(g["after"] >= g["before"] / 2 for g in result["groups"].values())
    assert result["reached"]["macs"] <= result["asked"]["macs"] <= 0.6 * 264
    # What only rounds that halve again could reach is out of reach, and said before any training.
    assert "out of reach" in error(
        "prune", f"{home}/mine.py:net", "-d", f"{home}/mine.py:data", "--train-epochs", "1", "-t",
        "macs=20%", "--rounds", "4", "--min-fraction", "0.5", "-o", home / "no",
    )  # fmt: skip
    assert not (home / "no").exists()


def test_a_group_near_its_floor_stays_whole_and_others_go_on(home):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 20), torch.nn.ReLU(),
        torch.nn.Linear(20, 2),
    )  # fmt: skip
    with torch.no_grad():
        for tensor in (net[0].weight, net[0].bias, net[2].weight):
            tensor.mul_(1e-3)  # so that a ranking over all groups takes from "0" first
    config = Config(model="m", target={"macs": 0.5}, min_fraction=0.1)
    source, cpu = Source.of(f"{home}/mine.py:net"), torch.device("cpu")
    opened = Opened(net, source, torch.zeros(1, 4), None, cpu)
    for floors, left in (({}, 4), ({"0": 5}, 5), ({"0": 6}, 10)):
        result = cut_above(config, opened, net, package.Target(macs=0.5), floors)
        assert result.plan.widths.get("0", 10) == left, floors
        assert result.reached["macs"] <= result.asked["macs"]
    assert net[0].out_features == 10  # a copy was cut


def test_a_multiple_that_groups_are_too_narrow_for(home):
    """16 units keep a multiple of 4 of them; 8 keep what they may, with --round-to 12."""
    plan = ("plan", f"{home}/mine.py:net", "--input", "1x6", "-t", "60%", "--round-to")
    assert "--round-to" not in sentei(*plan, "4")
    words = "--round-to 12 had no effect on 1 of the 2 groups that lost units, too narrow for it: 3"
    assert words in " ".join(sentei(*plan, "12").split())
    assert json.loads(sentei(*plan, "12", "--json"))["unrounded"] == ["3"]
    out = home / "narrow"
    text = sentei("prune", *plan[1:], "12", "-o", out)
    assert " ".join(text.split()).count(words) == 2  # in its stage, and in the summary
    assert read_result(out)["unrounded"] == ["3"]
    page = (out / "report.html").read_text()
    assert "Not kept at a multiple of 12, which they are too narrow for: <code>3</code>" in page


def test_a_loss_that_comes_with_the_outputs(home):
    """And what a criterion cannot score is said before anything is trained."""
    out = home / "carries"
    sentei(
        "prune", f"{home}/mine.py:carries", "-d", f"{home}/mine.py:named", "-c", "taylor", "-t",
        "50%", "--train-epochs", "1", "--epochs", "1", "-o", out,
    )  # fmt: skip
    assert read_result(out)["final"]["value"] > 0
    words = error(
        "prune", f"{home}/mine.py:net", "--input", "1x6", "-c", "taylor", "-t", "50%", "-o",
        home / "no",
    )  # fmt: skip
    assert "needs gradients" in words and not (home / "no").exists()
    words = error("plan", f"{home}/mine.py:wide", "-d", f"{home}/mine.py:data", "-t", "50%")
    assert words.endswith("the model's parameters are float64, its inputs float32")
