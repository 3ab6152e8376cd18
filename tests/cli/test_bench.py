from typer.testing import CliRunner

from sentei.cli.app import app
from tests.bench.test_bench import CONFIG

SMALL = CONFIG.replace("[2, 4]", "[4]").replace("[0, 1]", "[0]").replace(
    "[han-magnitude, {method: random, options: {scope: global}}]", "[lamp]"
)  # fmt: skip


def test_a_bench_runs_reports_and_goes_on(tmp_path):
    (tmp_path / "bench.yaml").write_text(SMALL)
    command = ["bench", str(tmp_path / "bench.yaml"), "--out", str(tmp_path / "store")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "5 runs done" in done.output and "report.md" in done.output
    again = CliRunner().invoke(app, command)
    assert "0 runs done, 5 were there" in again.output
    page = tmp_path / "map.html"
    drawn = CliRunner().invoke(app, ["map", "--out", str(page), "--store", str(tmp_path / "store")])
    assert drawn.exit_code == 0 and "lamp" in page.read_text()


def test_its_mistakes_are_one_line(tmp_path):
    wrong = CliRunner().invoke(app, ["bench", str(tmp_path / "no.yaml"), "--out", str(tmp_path)])
    assert wrong.exit_code == 1 and "cannot read" in wrong.output
    (tmp_path / "bench.yaml").write_text(SMALL)
    place = ["bench", str(tmp_path / "bench.yaml"), "--out", str(tmp_path / "s"), "--on", "moon"]
    assert "known: here, ray" in CliRunner().invoke(app, place).output
    assert "no folder" in CliRunner().invoke(app, ["map", "--store", str(tmp_path / "x")]).output
