"""SIGKILL at random moments of writing: the store comes out the same, nothing half is believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_hindcast.py")
ROUNDS, KILLS, THREADS = 8, 3, 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked and killed by SIGKILL")
def test_a_killed_writer_is_taken_up_again(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(ROUNDS), str(KILLS), "7"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["exit"] == 0
    assert report["kills"] >= 20
    assert report["different"] == 0
    assert report["seen_early"] == 0
    assert report["left_over"] == []
    assert report["marked"] > 0
    assert report["marked_wrong"] == 0
    # a kill costs at most the blocks that were being made, one for each thread
    assert report["blocks"] == 24
    assert all(again <= KILLS * THREADS for again in report["made_again"])
    assert len({*report["done_at_kill"]}) > 2  # they were killed at moments that differ
