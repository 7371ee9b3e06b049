"""All networks in miniature: fair runs, sums by hand, and pages that say what the runs found."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

CI = Path(__file__).parents[2] / "ci"
sys.path.insert(0, str(CI))

import compare_networks  # noqa: E402
import comparison_page  # noqa: E402
import model_table  # noqa: E402

MODELS = CI.parent / "docs" / "models"
FOUND = json.loads((MODELS / "comparison.json").read_text(encoding="utf-8"))
SMALL = compare_networks.Recipe(steps=2, seconds=3.0, batch=2)
FRAMES = compare_networks.HISTORY + compare_networks.HORIZON


def made(names=("A", "B"), *, seeds=3):
    """Return lines of a file of results: the scores of B are those of A and 1."""
    events = {0: ("x_1", "x_2"), 1: ("y_1",), 2: ("z_1",)}
    lines = [
        {
            "recipe": {"steps": 5, "seconds": 8.0},
            "events": ["x_1", "x_2", "y_1", "z_1"],
            "costs": {name: {"parameters": 1, "macs": 2} for name in names},
            "pace": dict.fromkeys(names, 0.1),
        },
        {"data": "nbody", "fold": 0, "references": {"Persistence": {"all": _scores(0.5)}}},
    ]
    for fold, held in events.items():
        references = {
            name: {event: _scores(value + 10 * fold) for event in held}
            for name, value in (("Persistence", 3.0), ("Extrapolation", 2.0))
        }
        lines.append({"data": "radar", "fold": fold, "references": references})
    for seed in range(seeds):
        for data in ("nbody", "radar"):
            for k, name in enumerate(names):
                units = ("all",) if data == "nbody" else events[seed]
                value = k + (seed if data == "nbody" else 10 * seed)
                line = {"seed": seed, "data": data, "fold": seed if data == "radar" else 0}
                budgets = {
                    budget: {"steps": n, "scores": {unit: _scores(value) for unit in units}}
                    for budget, n in (("steps", 5), ("time", 80))
                }
                lines.append({**line, "network": name, **budgets})
    return lines


def _scores(value):
    return dict.fromkeys(("mse", "mae", "csi 0.1", "csi 1", "csi 5"), float(value))


def row(found, data, network, budget="time"):
    return next(
        r
        for r in found["rows"]
        if (r["data"], r["network"], r["budget"]) == (data, network, budget)
    )


def test_intervals_over_seeds_and_over_events_by_hand():
    found = comparison_page.summary(made())
    # seeds 0, 1, 2: mean 1, deviation 1, t = 4.3027
    assert row(found, "nbody", "A")["scores"]["mse"]["interval"] == pytest.approx(
        [1.0, 1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5], rel=1e-4
    )
    # events 0, 0, 10, 20 against 3, 3, 13, 23: the difference is the same for all
    radar = row(found, "radar", "B")
    assert radar["scores"]["csi 1"]["interval"][0] == pytest.approx(8.5)
    assert radar["less"]["Persistence"]["csi 1"] == pytest.approx([-2.0] * 3)
    assert radar["less"]["Extrapolation"]["mse"] == pytest.approx([-1.0] * 3)
    still = row(found, "radar", "Persistence", None)
    assert still["less"]["Extrapolation"]["mse"] == pytest.approx([1.0] * 3)
    assert found["runs"] == {"nbody": 3, "radar": 3}


def test_only_seeds_that_all_networks_have_are_counted():
    lines = made()
    assert lines[-1]["network"] == "B"
    found = comparison_page.summary(lines[:-1])
    assert found["seeds"] == {"nbody": [0, 1, 2], "radar": [0, 1]}
    events = row(found, "radar", "A")["scores"]["mse"]["each"]
    assert sorted(events) == ["x_1", "x_2", "y_1"]
    assert sorted(row(found, "radar", "Persistence", None)["scores"]["mse"]["each"]) == sorted(
        events
    )


def test_the_table_shows_references_first_and_the_budget_asked_for():
    header, body = comparison_page.table(comparison_page.summary(made()), "radar", "steps")
    assert header[:2] == ["network", "steps"]
    assert [line[0] for line in body] == ["Persistence", "Extrapolation", "A", "B"]
    assert [line[1] for line in body] == ["", "", "5", "5"]
    assert body[-1][-1] == "-1.000 [-1.000, -1.000]"
    assert all(len(line) == len(header) for line in body)


def test_what_is_said_first_counts_networks_below_what_learns_nothing():
    """Means: digits 1 and 2 against 0.5; radar 7.5 and 8.5 against 10.5 and 9.5."""
    said = comparison_page.outcome(comparison_page.summary(made())).splitlines()
    assert said == [
        f"{when}, of 2 networks have a lower MSE: on the digits 0 than persistence; on the radar "
        "2 than persistence, 2 than extrapolation."
        for when in ("After 5 steps", "After 8 s")
    ]


def test_every_event_is_held_out_once_with_all_of_its_service():
    names = ["bom_1", "fmi_1", "knmi_1", "mch_1", "mch_2"]
    folds = [compare_networks.held_out(names, fold, 3) for fold in range(3)]
    assert sorted(name for held in folds for name in held) == names
    for held in folds:
        services = {name.split("_")[0] for name in held}
        assert not services & {name.split("_")[0] for name in set(names) - set(held)}
    assert compare_networks.held_out(["before", "after"], 0, 1) == ["after"]


def test_jobs_cover_every_seed_and_fold_once_and_one_fold_per_seed_first():
    jobs = list(compare_networks.jobs(compare_networks.Recipe(), folds=3))
    keys = [tuple(job.values()) for job in jobs]
    networks = len(compare_networks.NETWORKS)
    assert len(keys) == len(set(keys)) == networks * (3 + 9)
    first = {(seed, fold) for seed, data, fold, _ in keys[: 6 * networks] if data == "radar"}
    assert first == {(0, 0), (1, 1), (2, 2)}


def test_rain_and_what_networks_see_of_it():
    rate = np.array([0.0, 0.1, 1.0, 5.0, 80.0])
    z = compare_networks.encoded(rate)
    assert z[:2] == pytest.approx([0.0, np.log10(2)])
    assert compare_networks.decoded(z) == pytest.approx(rate)
    assert compare_networks.decoded(np.array([-3.0])) == pytest.approx([0.0])


def test_radar_scores_by_hand():
    """Where extrapolation has no value nothing is scored."""
    shape = (1, compare_networks.HORIZON, 2, 2)
    truth = np.broadcast_to([[0.0, 2.0], [6.0, 9.0]], shape)
    ahead = np.broadcast_to([[1.0, 1.0], [1.0, np.nan]], shape)
    test = compare_networks.RadarTest(truth[:, :6], truth, ahead)
    found = test.scores(np.broadcast_to([[0.5, 2.0], [3.0, 0.0]], shape))
    expected = {"mse": (0.25 + 9) / 3, "csi 0.1": 2 / 3, "csi 1": 1.0, "csi 5": 0.0}
    assert found == pytest.approx(expected)
    assert test.references()["Persistence"]["mse"] == 0


@pytest.mark.parametrize("name", compare_networks.NETWORKS)
def test_networks_are_of_like_size_and_those_of_the_page(name):
    net = compare_networks.config(name).build()
    count = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert 0.3e6 < count < 1e6
    assert FOUND["costs"][name]["parameters"] == count


def waves():
    """Return a case without data: patterns that move by a cell."""

    def draw(rng):
        base = rng.random((compare_networks.SIDE,) * 2, dtype="f4")
        frames = np.stack([np.roll(base, t, -1) for t in range(FRAMES)])
        return frames, np.ones_like(frames)

    held = np.stack([draw(np.random.default_rng(k))[0] for k in range(3)])
    truth = held[:, compare_networks.HISTORY :]

    def score(forecast):
        return {"all": {"mse": float(np.square(forecast - truth).mean())}}

    histories = torch.from_numpy(held[:, : compare_networks.HISTORY, ..., None])
    return compare_networks.Case(draw, histories, score, {})


def test_runs_repeat_and_are_scored_at_both_budgets():
    case = waves()
    runs = [compare_networks.train("UNet", case, SMALL, seed=seed, step=0.5) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert {k: v["steps"] for k, v in runs[0].items()} == {"steps": 2, "time": 6}
    assert runs[0]["steps"]["scores"] != runs[0]["time"]["scores"]


def test_cells_that_are_not_known_do_not_count():
    run = compare_networks.Run("UNet", SMALL, 0)
    other = compare_networks.Run("UNet", SMALL, 0)
    frames, weight = compare_networks.batch(waves().draw, 2, np.random.default_rng(0))
    weight[..., :5, :] = 0
    run.step(frames, weight)
    changed = frames.clone()
    changed[:, compare_networks.HISTORY :, :, :5] += 9
    other.step(changed, weight)
    assert all(
        torch.equal(a, b)
        for a, b in zip(run.network.parameters(), other.network.parameters(), strict=True)
    )


def test_crops_of_an_event_are_seen_and_mostly_wet():
    rng = np.random.default_rng(0)
    frame = np.full((60, 70), np.nan)
    frame[10:50, 10:60] = 0.0
    frame[10:50, 30:60] = 2.0
    for _ in range(20):
        r, c = compare_networks._corner(frame, rng, 0.3)
        part = frame[r : r + compare_networks.SIDE, c : c + compare_networks.SIDE]
        assert np.isfinite(part).mean() > 0.9
        assert (part >= 0.1).mean() > 0.1


def test_results_are_taken_up_and_not_those_of_another_recipe(tmp_path, monkeypatch):
    rain = xr.DataArray(np.zeros((40, 30, 30), "f4"), dims=("time", "y", "x"))
    monkeypatch.setattr(compare_networks, "events", lambda folder: {"before": rain, "after": rain})
    monkeypatch.setattr(compare_networks, "NETWORKS", {"UNet": compare_networks.NETWORKS["UNet"]})
    monkeypatch.setattr(compare_networks, "digits", waves)
    monkeypatch.setattr(compare_networks, "crops", lambda events, held: waves())
    threads = torch.get_num_threads()
    path = tmp_path / "runs.jsonl"
    short = replace(SMALL, steps=1, seconds=0.001)
    compare_networks.run_all(path, None, short, 60.0)
    lines = compare_networks.read(path)
    assert [line["data"] for line in lines if "seed" in line] == ["nbody", "radar"] * 3
    compare_networks.run_all(path, None, short, 60.0)
    assert compare_networks.read(path) == lines
    with pytest.raises(SystemExit, match="another recipe"):
        compare_networks.run_all(path, None, compare_networks.Recipe(), 60.0)
    torch.set_num_threads(threads)


def test_the_page_is_that_of_the_numbers():
    assert comparison_page.page(FOUND) == (MODELS / "comparison.rst").read_text(encoding="utf-8")


def test_ten_networks_at_both_budgets_over_seeds_and_events():
    for data in ("nbody", "radar"):
        for budget in ("steps", "time"):
            rows = [r for r in FOUND["rows"] if (r["data"], r["budget"]) == (data, budget)]
            assert [r["network"] for r in rows] == list(compare_networks.NETWORKS)
        assert len(FOUND["seeds"][data]) >= 3
    assert {r["network"] for r in FOUND["rows"] if not r["budget"]} >= {
        "Persistence",
        "Extrapolation",
    }
    events = row(FOUND, "radar", "Earthformer")["scores"]["mse"]["each"]
    assert sorted(events) == FOUND["events"]
    assert FOUND["recipe"] == compare_networks.asdict(compare_networks.Recipe())


def test_own_scores_stand_in_the_table_of_the_paper():
    page = (MODELS / "seed-tables.rst").read_text(encoding="utf-8")
    ours = model_table.own(FOUND)
    assert set(ours) >= set(compare_networks.NETWORKS) | {"Persistence"}
    for data, score, label, unit in model_table.OWN:
        assert f"- {label}\n" in page
        mean = row(FOUND, data, "UNet")["scores"][score]["interval"][0] / unit
        assert f"     - {mean:.3g}\n" in page
