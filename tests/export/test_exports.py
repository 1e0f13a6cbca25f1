"""Runs for other tools: read back with independent readers, Wireshark's own among them."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import struct
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers.tables_of_runs import N, metrics, mixes, small_run, trace

from p2pl_async.errors import ScenarioError
from p2pl_async.experiment import running
from p2pl_async.export.csv import write_csv
from p2pl_async.export.pcapng import write_pcapng
from p2pl_async.export.perfetto import write_perfetto
from p2pl_async.export.tensorboard import write_tensorboard
from p2pl_async.results.run import Run
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.testing.chatter import Chatter
from p2pl_async.transport.wire import decode

TSHARK = shutil.which("tshark")
without_tshark = pytest.mark.skipif(TSHARK is None, reason="there is no tshark to read captures with")


def events(path: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads(gzip.decompress(path.read_bytes()))["traceEvents"])


def test_perfetto_has_a_slice_and_an_arrow_for_each_message(tmp_path: Path) -> None:
    found, kept = events(write_perfetto(small_run(), tmp_path / "run.json.gz")), trace()
    sent = found[(found["ph"] == "X") & (found["tid"] == 2)]
    assert sorted(sent["ts"]) == pytest.approx(sorted(kept["sent_s"] * 1e6))
    assert set(sent["dur"]) == {200_000.0}
    starts, ends = (found[found["ph"] == phase].set_index("id") for phase in "sf")
    assert len(starts) == len(ends) == kept["arrival_s"].notna().sum()
    assert ((ends["ts"] - starts["ts"]) - 250_000).abs().max() < 1
    assert sorted(starts["pid"]) == sorted(kept["src"][kept["arrival_s"].notna()])
    assert sorted(ends["pid"]) == sorted(kept["dst"][kept["arrival_s"].notna()])


def test_perfetto_tells_when_a_message_entered_the_model(tmp_path: Path) -> None:
    found = events(write_perfetto(small_run(mixes=mixes().iloc[:30]), tmp_path / "run.json.gz"))
    after = [
        one["entered the model after (s)"] for one in found["args"].dropna() if "entered the model after (s)" in one
    ]
    used = mixes().iloc[:30].merge(trace(), left_on=["src", "device", "number"], right_on=["src", "dst", "number"])
    assert sorted(after) == pytest.approx(sorted(used["time_s"] - used["sent_s"]))
    assert len(after) == 30


def test_perfetto_has_trainings_rounds_crashes_and_counters(tmp_path: Path) -> None:
    run = small_run(metrics=metrics((30.0, 1, "crash", 5), (31.0, 0, "loss", math.nan)), trace=None)
    found = events(write_perfetto(run, tmp_path / "run.json.gz"))
    trained = found[(found["ph"] == "X") & (found["pid"] == 0)]
    assert trained["ts"].iloc[0] == 0
    assert set(trained["dur"]) == {4e6}
    assert "round 1 ends" in set(found["name"])
    assert found[found["name"] == "crash"]["ts"].tolist() == [30e6]
    assert found[found["ph"] == "C"]["args"].iloc[-1] == {"accuracy": 0.9}  # without a trace there is no other
    names = found[(found["name"] == "process_name")]["args"].tolist()
    assert names == [{"name": f"device {k}"} for k in range(N)]


def test_perfetto_counts_the_messages_of_each_device_that_are_under_way(tmp_path: Path) -> None:
    found, kept = events(write_perfetto(small_run(), tmp_path / "run.json.gz")), trace()
    counts = found[found["name"] == "messages under way"]
    gone = kept["arrival_s"].fillna(kept["sent_s"] + kept["air_s"])
    assert set(counts["ph"]) == {"C"}
    for device, own in counts.groupby("pid"):
        mine = kept["src"] == device
        assert own["ts"].is_monotonic_increasing
        assert len(own) == len(set(kept["sent_s"][mine]) | set(gone[mine]))
        for at, count in zip(own["ts"] / 1e6, own["args"], strict=True):
            there = (kept["sent_s"][mine] <= at + 1e-9) & (gone[mine] > at + 1e-9)
            assert count == {"messages": there.sum()}
    assert len(set(counts["pid"])) == N


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Return the blocks of a pcapng file, whose two lengths must agree."""
    found = []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def test_a_capture_has_a_packet_for_each_message(tmp_path: Path) -> None:
    found = blocks(write_pcapng(small_run(), tmp_path / "run.pcapng").read_bytes())
    assert [kind for kind, _ in found] == [0x0A0D0D0A, 1] + [6] * 240
    kept = trace().sort_values("sent_s", kind="stable")
    for (_, body), (_, row) in zip(found[2:], kept.iterrows(), strict=True):
        _, high, low, captured, original = struct.unpack_from("<IIIII", body)
        assert ((high << 32) + low) / 1e9 == pytest.approx(row["sent_s"], abs=1e-9)
        assert (captured, original) == (20, 1020)
        assert struct.unpack_from(">III", body, 20) == (row["src"], row["dst"], row["number"])
        assert (b"lost by loss" in body) == (row["fate"] == "loss")


@without_tshark
def test_wireshark_names_the_fields_by_the_dissector_beside_the_capture(tmp_path: Path) -> None:
    assert TSHARK is not None
    file = write_pcapng(small_run(), tmp_path / "run.pcapng")
    names = ("frame.time_epoch", "p2pl.from", "p2pl.to", "p2pl.number", "p2pl.fate", "frame.len", "frame.comment")
    fields = [part for name in names for part in ("-e", name)]
    command = [TSHARK, "-r", str(file), "-X", f"lua_script:{tmp_path / 'p2pl.lua'}", "-T", "fields", *fields]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    kept = trace().sort_values("sent_s", kind="stable")
    assert len(lines) == len(kept)
    for line, (_, row) in zip(lines, kept.iterrows(), strict=True):
        at, src, dst, number, fate, length, comment = line.split("\t")
        assert float(at) == pytest.approx(row["sent_s"], abs=1e-9)
        assert (int(src), int(dst), int(number)) == (row["src"], row["dst"], row["number"])
        assert (fate == "3") == (row["fate"] == "loss")
        assert length == "1020"
        assert comment == ("params; lost by loss" if fate == "3" else "params; delivered after 250 ms")


def captured(payloads: int) -> Run:
    """Return a short run of devices that talk, with the first bytes of their messages."""
    table = {"devices": {"count": 3}, "stop": {"virtual_time": "5 s"}, "protocol": {"kind": "p2pl"}}
    scenario = Scenario.model_validate(table).model_copy(update={"protocol": Chatter()})
    return running.run(scenario, trace=True, payloads=payloads)


def test_the_trace_keeps_how_messages_begin_and_nothing_else_changes() -> None:
    some, none = captured(30), captured(0)
    assert some.trace is not None
    assert none.trace is not None
    pd.testing.assert_frame_equal(some.trace.drop(columns="payload"), none.trace, check_categorical=False)
    assert some.summary["trace_digest"] == none.summary["trace_digest"]
    whole = captured(10_000).trace
    assert whole is not None
    assert (whole["payload"].map(len) == whole["size_bytes"]).all()
    assert whole["payload"].map(lambda data: data[:30]).tolist() == some.trace["payload"].tolist()
    for data, kind in zip(whole["payload"], whole["kind"], strict=True):
        assert decode(data, 0.0).tag == kind


@without_tshark
def test_wireshark_reads_the_payload_as_msgpack(tmp_path: Path) -> None:
    assert TSHARK is not None
    run = captured(10_000)
    assert run.trace is not None
    file = write_pcapng(run, tmp_path / "run.pcapng")
    command = [TSHARK, "-r", str(file), "-X", f"lua_script:{tmp_path / 'p2pl.lua'}", "-V"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "Malformed" not in said
    for kind, count in run.trace["kind"].value_counts().items():
        assert said.count(f"MsgPack String: {kind}\n") == count


@without_tshark
def test_as_ip_any_tool_sees_addresses_ports_and_a_right_checksum(tmp_path: Path) -> None:
    assert TSHARK is not None
    file = write_pcapng(small_run(), tmp_path / "ip.pcapng", as_ip=True)
    names = ("ip.src", "ip.dst", "udp.dstport", "ip.len", "ip.checksum.status")
    fields = [part for name in names for part in ("-e", name)]
    command = [TSHARK, "-r", str(file), "-o", "ip.check_checksum:TRUE", "-T", "fields", *fields]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    first = trace().sort_values("sent_s", kind="stable").iloc[0]
    assert lines[0].split("\t") == [f"10.0.0.{first['src']}", f"10.0.0.{first['dst']}", "47806", "1028", "1"]
    assert len(lines) == 240
    assert not (tmp_path / "p2pl.lua").exists()


def test_a_capture_needs_a_trace(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="--trace"):
        write_pcapng(small_run(trace=None), tmp_path / "run.pcapng")


def test_payloads_are_written_as_csv_in_hexadecimal(tmp_path: Path) -> None:
    run = captured(4)
    write_csv(run, tmp_path)
    assert run.trace is not None
    assert pd.read_csv(tmp_path / "trace.csv", dtype=str)["payload"].tolist() == [
        data.hex() for data in run.trace["payload"]
    ]


def test_tables_are_written_as_csv(tmp_path: Path) -> None:
    files = write_csv(small_run(), tmp_path / "csv")
    assert [file.name for file in files] == ["metrics.csv", "devices.csv", "links.csv", "trace.csv"]
    assert len(pd.read_csv(tmp_path / "csv" / "trace.csv")) == 240
    assert len(write_csv(small_run(trace=None), tmp_path / "other")) == 3
    places = pd.DataFrame({"time_s": [0.0, 1.0], "device": [1, 1], "x": [5.0, 6.0], "y": 2.0, "z": 0.0})
    names = [file.name for file in write_csv(small_run(mixes=mixes(), positions=places), tmp_path / "all")]
    assert names == ["metrics.csv", "devices.csv", "links.csv", "trace.csv", "mixes.csv", "positions.csv"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "all" / "positions.csv"), places)


def test_tensorboard_has_the_measurements_at_their_virtual_time_or_is_asked_for(tmp_path: Path) -> None:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        with pytest.raises(ScenarioError, match=r"pip install 'p2pl-async\[tensorboard\]'"):
            write_tensorboard(small_run(), tmp_path)
        return
    accumulator = EventAccumulator(str(write_tensorboard(small_run(), tmp_path / "events")))
    accumulator.Reload()
    last = accumulator.Tensors("devices/accuracy/mean")[-1]
    assert (last.wall_time, last.step) == (100.0, 100_000)
    assert make_ndarray(last.tensor_proto) == pytest.approx(0.9)
    assert accumulator.Tensors("device 3/accuracy")
    assert make_ndarray(accumulator.Tensors("run/bytes_on_air")[-1].tensor_proto) == 100_000
