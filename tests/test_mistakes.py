"""Mistakes: what a person can write wrong, and what the answer must hold: the place, and the way out."""

from __future__ import annotations

import gzip
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from p2pl_async.errors import ScenarioError
from p2pl_async.learning.data import Npz
from p2pl_async.scenario.reading.load import load_scenario

LEAST = 'devices.count = 4\nprotocol.kind = "p2pl"\nstop.rounds = 1\n'

# What is written, the key that the answer names, and words of its text
SETTINGS = [
    ("devices.count=1000000000", "devices.count", "must be at most 1000000"),
    ("devices.count=0", "devices.count", "must be at least 1"),
    ("devices.count=-3", "devices.count", "must be at least 1"),
    ('devices.count="4"', "devices.count", "must be a whole number, without quotes"),
    ("devices.count=4.5", "devices.count", "must be a whole number, without quotes"),
    ("devices.count=true", "devices.count", "must be a whole number, without quotes"),
    ("devices.count=four", "devices.count", "must be a whole number, without quotes"),
    ("devices.cuont=4", "devices.cuont", 'unknown key; did you mean "count"?'),
    ("device.count=4", "device", 'unknown key; did you mean "devices"?'),
    ("devices.compute=-1", "devices.compute", 'must be above 0 s, such as "20 ms"'),
    ('devices.compute="2"', "devices.compute", 'has no unit; write it like "20 ms"'),
    ("devices.compute=2", "devices.compute", 'needs its unit; write "2 s" or "2 ms"'),
    (
        'devices.compute.per_epoch="2 parsecs"',
        "devices.compute.per_epoch",
        'unknown unit "parsecs"; write it like "20 ms"',
    ),
    ("devices.compute.spread=-1", "devices.compute.spread", "must be at least 0.0"),
    ('devices.compute.jitter="a lot"', "devices.compute.jitter", "must be a number, without quotes"),
    ('devices.start="-1 s"', "devices.start", "must be at least 0 s"),
    ('devices.start.uniform="0 s"', "devices.start.uniform", "must be above 0 s"),
    ("devices.join=5", "devices.join", 'needs its unit; write "5 s" or "5 ms"'),
    (
        "devices.group.a.ids=[9]",
        "devices.group.a.ids",
        "there is no device 9; ids go from 0 to 3, as devices.count = 4",
    ),
    ('devices.group.a.ids="x"', "devices.group.a.ids", 'unknown group "x"; known: none'),
    (
        'devices.group."1 a".ids=[0]',
        'devices.group."1 a"',
        "a group's name must be a letter, then letters, digits, _ and -",
    ),
    ('devices.group.a.compute="1 s"', "devices.group.a.ids", "is missing; it has no default"),
    ("topology=rign", "topology", 'unknown topology; did you mean "ring"?'),
    ("topology.kind=7", "topology.kind", "must be a text"),
    ("topology=5", "topology", 'must be a table with a "kind"'),
    ('topology={kind="random-regular",degree=4}', "topology", "degree=4 must be below the number of devices, 4"),
    ('topology={kind="random-regular",degree=3.5}', "topology.degree", "must be a whole number, without quotes"),
    (
        'topology={kind="erdos-renyi",p=1.5}',
        "topology.p",
        "must be a probability between 0 and 1; for 1.5 percent write",
    ),
    ('topology={kind="erdos-renyi",p="150 %"}', "topology.p", 'must be a probability from "0 %" to "100 %"'),
    ('topology={kind="random-geometric",radius=-1}', "topology.radius", "must be above 0.0"),
    ('topology={kind="file",path="nothing.txt"}', "topology", "No such file or directory"),
    (
        'topology={kind="watts-strogatz",neighbors=3,rewire=0.1}',
        "topology",
        "neighbors=3 must be even, half of them on each side; use 4",
    ),
    ("link.latency=10", "link.latency", 'needs its unit; write "10 s" or "10 ms"'),
    ('link.latency="10"', "link.latency", 'has no unit; write it like "20 ms"'),
    ('link.latency="10 sm"', "link.latency", 'unknown unit "sm"; write it like "20 ms"'),
    ('link.latency="-10 ms"', "link.latency", "must be at least 0 s"),
    (
        'link.latency={kind="uniform",low="20 ms",high="10 ms"}',
        "link.latency",
        "low, 20 ms, must not be above high, 10 ms",
    ),
    ('link.latency={kind="normal"}', "link.latency.mean", "is missing; it has no default"),
    ("link.latency.mean=5", "link.latency.mean", 'needs its unit; write "5 s" or "5 ms"'),
    ('link.latnecy="1 ms"', "link.latnecy", 'unknown key; did you mean "latency"?'),
    ("link.loss=1.5", "link.loss", "must be a probability between 0 and 1; for 1.5 percent write"),
    ('link.loss="150 %"', "link.loss", 'must be a probability from "0 %" to "100 %"'),
    ('link.loss="-5 %"', "link.loss", 'must be a probability from "0 %" to "100 %"'),
    ("link.loss=15", "link.loss", 'must be a probability between 0 and 1; for 15 percent write "15'),
    ('link.loss="5 procent"', "link.loss", 'unknown unit "procent"; write it like "5 %"'),
    ('link.loss="0,5"', "link.loss", 'has a decimal comma; write a point, "0.5"'),
    ('link.loss={kind="gilbert-elliott",good="2 s"}', "link.loss.bad", "is missing; it has no default"),
    (
        'link.loss={kind="gilbert-eliot",good="2 s",bad="1 s"}',
        "link.loss.kind",
        'unknown loss; did you mean "gilbert-elliott"?',
    ),
    ('link.loss={good="2 s"}', "link.loss", 'needs a "kind"'),
    ('link.rate="2 Mb/s"', "link.rate", 'unknown unit "Mb/s"; write "2 Mbit/s"'),
    ('link.rate="2 MB/s"', "link.rate", 'unknown unit "MB/s"; write it in bits, "16 Mbit/s"'),
    ("link.rate=250", "link.rate", 'needs its unit; write "250 bit/s" or "250 kbit/s"'),
    ('link.rate="250"', "link.rate", 'has no unit; write it like "250 kbit/s"'),
    ('link.rate="-1 kbit/s"', "link.rate", "must be above 0 bit/s"),
    ('link.rate="fast"', "link.rate", 'must be a number and a unit, such as "250 kbit/s"'),
    ('link.mtu="0 B"', "link.mtu", "must be above 0 B"),
    ("link.mtu=1500", "link.mtu", 'needs its unit; write "1500 B" or "1500 KiB"'),
    ('link.mtu="1.5 kB/s"', "link.mtu", 'unknown unit "kB/s"; write it like "64 KiB"'),
    ("link.queue.messages=0", "link.queue.messages", "must be at least 1"),
    ("link.duplicate=2", "link.duplicate", 'must be a probability between 0 and 1; for 2 percent write "2 %"'),
    ('link.reorder="5 %"', "link.reorder", 'unknown key; did you mean "order"?'),
    ('link.order="sometimes"', "link.order", 'must be one of "fifo", "free"'),
    ("link.arq=true", "link.arq", "must be a table"),
    ("link.arq.retries=-1", "link.arq.retries", "must be at least 0"),
    ('link.preset="wifi"', "link.preset", "unknown preset;"),
    ("link.override=[{}]", "link.override[0]", "changes nothing; give some of latency, loss, rate, queue, mtu,"),
    (
        "link.override=[{from=0,to=1}]",
        "link.override[0]",
        "changes nothing; give some of latency, loss, rate, queue, mtu,",
    ),
    (
        'link.override=[{from=9,to=1,loss="5 %"}]',
        "link.override[0].from",
        "there is no device 9; ids go from 0 to 3, as devices.count = 4",
    ),
    ('link.override=[{from="nobody",to=1,loss="5 %"}]', "link.override[0].from", 'unknown group "nobody"; known: none'),
    ('link.override=[{from=0,to=1,los="5 %"}]', "link.override[0].los", 'unknown key; did you mean "loss"?'),
    (
        "link.override=[{from=0,to=1,loss=7}]",
        "link.override[0].loss",
        'must be a probability between 0 and 1; for 7 percent write "7 %"',
    ),
    ("link.override={from=0}", "link.override", "must be a list"),
    ('link.override[3].loss="5 %"', "link.override", "must be a list"),
    ('link.override=[{from=0,to=0,loss="5 %"}]', "link.override[0]", "matches no link, as no device links to itself"),
    ("medium=shared", "medium", "unknown medium;"),
    ("medium=csma", "medium", 'unknown medium; did you mean "csma-ca"?'),
    ('medium.kind="csma-ca"', "link", "is required on a shared medium: without it frames would take no"),
    ("radio.power=20", "radio.power", 'needs its unit; write "20 dBm"'),
    ('radio.power="20 dB"', "radio.power", 'unknown unit "dB"; write it like "-95 dBm"'),
    ('radio.frequency="2.4"', "radio.frequency", 'has no unit; write it like "2.4 GHz"'),
    ('mobility="random-waypoint"', "mobility", "is missing; it has no default"),
    ("mobility=walk", "mobility", "unknown mobility;"),
    ("churn.up=5", "churn.up", 'needs its unit; write "5 s" or "5 ms"'),
    ('churn={up="5 s"}', "churn", 'needs both up = "10 min" and down = "1 min", or neither'),
    ('churn={up="5 s",down="0 s"}', "churn.down", "must be above 0 s"),
    ("clocks.drift=5", "clocks.drift", 'needs its unit; write "5 ppm"'),
    ('energy.battery="5"', "energy.voltage", "is missing; it has no default"),
    ('energy={kind="esp32"}', "energy.voltage", "is missing; it has no default"),
    ("event=[{}]", "event[0]", 'needs a "kind"'),
    ('event=[{kind="crash"}]', "event[0].at", "is missing; it has no default"),
    ('event=[{kind="explode",at="5 s"}]', "event[0].kind", "unknown event;"),
    ('event=[{kind="partition",at="5 s"}]', "event[0].groups", "is missing; it has no default"),
    ('event={at="5 s"}', "event", "must be a list"),
    ("protocol=p2p", "protocol", 'unknown protocol; did you mean "p2pl"?'),
    ("protocol.kind=5", "protocol.kind", "must be a text"),
    ("protocol=7", "protocol", 'must be a table with a "kind"'),
    ("protocol.epochs=0", "protocol.epochs", "must be above 0"),
    ("protocol.epochs=-1", "protocol.epochs", "must be above 0"),
    ("protocol.epochs=1.5", "protocol.epochs", "must be a whole number"),
    ("protocol.epoch=1", "protocol.epoch", 'unknown key; did you mean "epochs"?'),
    ('protocol.mode="lazy"', "protocol.mode", "unknown mode;"),
    ('protocol.sync="maybe"', "protocol.sync", "unknown synchronization;"),
    ('protocol.sync={kind="max-norm",beacon="0 s"}', "protocol.sync.beacon", "must be above 0 s"),
    ("protocol.consensus_steps=-1", "protocol.consensus_steps", "must be above 0"),
    ('protocol="nothing.py:Mine"', "protocol", "no such file or directory"),
    ('protocol="nothing:Mine"', "protocol", "there is no module nothing; is it installed, or did you mean"),
    ('protocol=":Mine"', "protocol", 'must be "module:Class" or "file.py:Class"'),
    ('protocol="trio:Cancelled"', "protocol", "Cancelled in trio must be a class derived from"),
    (
        'protocol={kind="fedavg",share=2}',
        "protocol.share",
        "unknown key; known: kind, largest, server, fraction, epochs,",
    ),
    ('protocol={kind="sgp",steps=0}', "protocol.steps", "must be above 0"),
    ("data=mnits", "data", "must be a table"),
    ("data.dataset=mnits", "data.dataset", 'unknown data set; did you mean "mnist"?'),
    (
        'data.dataset={kind="npz",path="nothing.npz"}',
        "data.dataset.path",
        "there is no such file; paths are relative to the scenario's",
    ),
    ('data.dataset.kind="npz"', "data.dataset.path", "is missing; it has no default"),
    ('data.partition={kind="dirichlet",alpha=0}', "data.partition.alpha", "must be above 0.0"),
    ('data.partition={kind="dirichlet",alpha=-1}', "data.partition.alpha", "must be above 0.0"),
    ("data.partition=dirichle", "data.partition", 'unknown partition; did you mean "dirichlet"?'),
    ("data.train_samples=0", "data.train_samples", "must be above 0"),
    ("data.train_samples=-5", "data.train_samples", "must be above 0"),
    ('data.train_samples="all"', "data.train_samples", "must be a whole number"),
    ("model.kind=cnnn", "model.kind", "unknown model;"),
    ("model.hidden=5", "model.hidden", "must be a list"),
    ("model.hidden=[0]", "model.hidden[0]", "must be above 0"),
    ("model.hidden=[-5]", "model.hidden[0]", "must be above 0"),
    ('model.hidden=["a"]', "model.hidden[0]", "must be a whole number"),
    ("model.hidden=[1.5]", "model.hidden[0]", "must be a whole number"),
    ("train.learning_rate=-1", "train.learning_rate", "must be above 0.0"),
    ("train.learning_rate=0", "train.learning_rate", "must be above 0.0"),
    ('train.learning_rate="fast"', "train.learning_rate", "must be a number"),
    ("train.learning_rate=nan", "train.learning_rate", "must be a finite number"),
    ("train.learning_rate=inf", "train.learning_rate", "must be a finite number"),
    ("train.learning_rate=1,5", "train.learning_rate", "must be a number"),
    ("train.batch_size=0", "train.batch_size", "must be above 0"),
    ("train.batch_size=some", "train.batch_size", 'must be a whole number, or "all"'),
    ("train.batch_size=1.5", "train.batch_size", 'must be a whole number, or "all"'),
    ("train.momentum=1", "train.momentum", "must be below 1.0"),
    ("train.momentum=-0.1", "train.momentum", "must be at least 0.0"),
    ("train.weight_decay=-1", "train.weight_decay", "must be at least 0.0"),
    ('train.precision="float8"', "train.precision", 'did you mean "float64"?  must be one of "float32", "float64"'),
    ("train.device=gpu", "train.device", "unknown key; known: learning_rate, loss, batch_size, momentum,"),
    ("train.optimizer=adam", "train.optimizer", "unknown key; known: learning_rate, loss, batch_size, momentum,"),
    ("evaluate.every=5", "evaluate.every", 'needs its unit; write "5 s" or "5 ms"'),
    ('evaluate.every="0 s"', "evaluate.every", "must be above 0 s"),
    ('evaluate.every="never"', "evaluate.every", 'must be a number and a unit, such as "20 ms"'),
    ("evaluate.samples=-1", "evaluate.samples", "must be at least 0"),
    ("evaluate.samples=1.5", "evaluate.samples", "must be a whole number, without quotes"),
    ("baselines.local=1", "baselines.local", "must be true or false"),
    ('baselines.local="yes"', "baselines.local", "must be true or false"),
    ("baselines.locla=true", "baselines.locla", 'unknown key; did you mean "local"?'),
    ("baselines=true", "baselines", "must be a table"),
    ("stop.rounds=0", "stop.rounds", "must be at least 1"),
    ("stop.rounds=-1", "stop.rounds", "must be at least 1"),
    ('stop.rounds="ten"', "stop.rounds", "must be a whole number, without quotes"),
    ("stop.rounds=1e3", "stop.rounds", "must be a whole number, without quotes"),
    ("stop.virtual_time=60", "stop.virtual_time", 'needs its unit; write "60 s" or "60 ms"'),
    ('stop.virtual_time="1 hour"', "stop.virtual_time", 'unknown unit "hour"; write "1 h"'),
    ('stop.virtual_time="-1 s"', "stop.virtual_time", "must be above 0 s"),
    ("stop.accuracy=97", "stop.accuracy", 'must be a probability between 0 and 1; for 97 percent write "97'),
    ('stop.accuracy="197 %"', "stop.accuracy", 'must be a probability from "0 %" to "100 %"'),
    ("stop.accuracy={}", "stop.accuracy", 'needs exactly one of every_device = "97 %" and mean = "97 %"'),
    (
        'stop.accuracy={every_device="9 %",mean="8 %"}',
        "stop.accuracy",
        'needs exactly one of every_device = "97 %" and mean = "97 %"',
    ),
    ('stop.acuracy="97 %"', "stop.acuracy", 'unknown key; did you mean "accuracy"?'),
    ("seed=-1", "seed", "must be at least 0"),
    ("seed=1.5", "seed", "must be a whole number, without quotes"),
    ('seed="one"', "seed", "must be a whole number, without quotes"),
    ("seed=true", "seed", "must be a whole number, without quotes"),
    ('name=""', "name", "must be letters, digits, spaces and . + - _ (results go into a"),
    ('name="../x"', "name", "must be letters, digits, spaces and . + - _ (results go into a"),
    ("name=5", "name", "must be a text in quotes"),
    ('nmae="x"', "nmae", 'unknown key; did you mean "name"?'),
    ("devices", "--set devices", 'must be like "--set devices.count=50"'),
    ("=5", "--set =5", 'must be like "--set devices.count=50"'),
    ("devices.=5", "--set devices.=5", 'must be like "--set devices.count=50"'),
    (".count=5", "--set .count=5", 'must be like "--set devices.count=50"'),
    ("devices.count.more=5", "devices.count", "must be a whole number, without quotes"),
    ("link=5", "link", "must be a table"),
    ("devices=5", "devices", "must be a table"),
    ("stop=5", "stop", "must be a table"),
    ("model=5", "model", 'must be a table with a "kind"'),
    ("train=5", "train", "must be a table"),
    ("evaluate=5", "evaluate", "must be a table"),
    ('link.latency="1,5 ms"', "link.latency", 'has a decimal comma; write a point, "1.5 ms"'),
    ('link.rate="2 GB/s"', "link.rate", 'unknown unit "GB/s"; write it in bits, "16 Gbit/s"'),
    ('stop.virtual_time="1 day"', "stop.virtual_time", 'unknown unit "day"; write "1 d"'),
    ('link.latency="5 secs"', "link.latency", 'unknown unit "secs"; write "5 s"'),
    ("link.latency=true", "link.latency", 'must be a quantity such as "20 ms"'),
    ("link.latency=-0.5", "link.latency", 'must be at least 0 s, such as "20 ms"'),
    ("devices.start=-1", "devices.start", 'must be at least 0 s, such as "20 ms"'),
    ("link.latency=[1,2]", "link.latency", 'must be a quantity such as "20 ms"'),
    ('link.latency="1e999 s"', "link.latency", "must be a finite quantity"),
    ('topology={kind="complete",radius=1}', "topology.radius", "unknown key; known: kind"),
    ('topology={kind="star",hub=9}', "topology.hub", "unknown key; known: kind"),
    (
        'devices.compute={per_epoch="1 s",per_sample="1 s"}',
        "devices.compute",
        'needs exactly one of per_epoch = "2 s" and per_sample = "3 ms"',
    ),
    (
        'event=[{kind="crash",at="5 s",devices=9}]',
        "event[0].devices",
        "there is no device 9; ids go from 0 to 3, as devices.count = 4",
    ),
    ('event=[{kind="set",at="5 s"}]', "event[0].link", "is missing; it has no default"),
    ('event=[{kind="link-down",at="-5 s"}]', "event[0].at", "must be at least 0 s"),
    ('link.outage={kind="contacts"}', "link.outage", 'needs exactly one of up = [["0 s", "10 s"], ...] and path ='),
    ("link.fec=2", "link.fec", "must be a table"),
    ("link.header=20", "link.header", 'needs its unit; write "20 B" or "20 KiB"'),
    ('link.corrupt="101 %"', "link.corrupt", 'must be a probability from "0 %" to "100 %"'),
    ('link.loss={kind="trace",path="nothing.csv"}', "link.loss", "no such file or directory"),
    ('link.rate={kind="trace",path="nothing.csv"}', "link.rate.column", "is missing; it has no default"),
    ('topology={kind="trace",path="nothing.csv"}', "topology", "no such file or directory"),
    ('model="mine.py:Net"', "model", "no such file or directory"),
    ('data.dataset="mine.py:Data"', "data.dataset", "no such file or directory"),
    ('train.schedule="cosin"', "train.schedule", 'unknown schedule; did you mean "cosine"?'),
    ('train.loss="mse"', "train.loss", "unknown loss;  known: cross-entropy, squared, binary-cross-entropy"),
    ('evaluate.metrics=["acuracy"]', "evaluate.metrics[0]", 'unknown metric; did you mean "accuracy"?'),
    ('evaluate.on="mine"', "evaluate.on", 'must be one of "all", "own"'),
    ("stop={accuracy=0.5,metric=0.5}", "stop", "takes one target, accuracy or metric; remove the other"),
    ('train.accelerator="gpu"', "train.accelerator", 'did you mean "cpu"?  must be one of "cpu", "cuda", "auto"'),
    ('train.workers="two"', "train.workers", 'must be a whole number, or "auto"'),
    ("train={workers=2,accelerator='auto'}", "train", 'compute on CPU cores; write accelerator = "cpu"'),
    ('train.on="cloud"', "train.on", 'must be "local", "ray" or "ray://host:port"'),
    ('train.on="ray"', "train", 'on = "ray" needs a number of workers; write workers = 4'),
    ("train.nesterov=1", "train", "nesterov needs momentum above 0; set train.momentum, 0.9 is"),
    ("train.clip=0", "train.clip", "must be above 0.0"),
    ("link.latency=9999999999999999999999", "--set link.latency", "has a whole number of more than 64 bits"),
    ("devices.count=99999999999999999999999999", "--set devices.count", "has a whole number of more than 64 bits"),
    ('stop.accuracy={mean="0,9"}', "stop.accuracy.mean", 'has a decimal comma; write a point, "0.9"'),
]

# A whole file, the place, and words of the text
FILES = [
    ('[link]\nloss = "5 %"\n[devices]\ncount = 3\n[link]\n', "line 5, column 6", "cannot declare [link] twice"),
    ("[devices.group.a]\nids = 1\n[devices.group.a]\n", "line 3, column 17", "cannot declare [devices.group.a] twice"),
    ("seed = 1\nseed = 2\n", "line 2, column 9", "cannot overwrite a value"),
    ("seed = 1,5\n", "line 1, column 9", "expected newline"),
    ("seed =\n", "line 1, column 7", "invalid value"),
    ("name = my run\n", "line 1, column 8", "a text must be in quotes"),
    ("[link]\nloss = 0,05  # few\n", "line 2, column 9", "a decimal comma must be a point, 0.05"),
    ('name = "x\n', "line 1, column 10", "illegal character"),
    ("[devices\ncount = 3\n", "line 1, column 9", "expected ']'"),
    ("seed: 1\n", "line 1, column 5", "expected '='"),
    ('[link]\nloss = "5 %"\n[[link]]\n', "line 3, column 7", "cannot overwrite a value"),
    (b'name = "\xe9"\n', "line 1", "must be UTF-8 text"),
    (LEAST.encode("utf-16"), "line 1", "must be UTF-8 text"),
    (b"\0\0\0", "line 1, column 1", "invalid statement"),
    ("", "devices", "is missing"),
    ("# nothing\n", "protocol", "is missing"),
    (b"seed = 1\rseed = 2", "line 1, column 9", "expected newline"),
    ("x = " + "[" * 5000 + "]" * 5000, "s.toml", "nested more than 20 deep"),
    (".".join("a" * 3000) + " = 1\n", "s.toml", "nested more than 20 deep"),
    ("x = " + "{a=" * 300 + "1" + "}" * 300, "s.toml", "nested more than 20 deep"),
    ("seed = " + "9" * 5000, "s.toml", "has a whole number of more than 64 bits"),
    ("seed = " + "9" * 4000, "s.toml", "has a whole number of more than 64 bits"),
    (LEAST + "link.loss = " + "9" * 400, "s.toml", "has a whole number of more than 64 bits"),
    (LEAST + 'link.latency = "' + "9" * 6000 + ' s"', "link.latency", "must be a finite quantity"),
    (LEAST + 'link.latency = "1e999999999 s"', "link.latency", "must be a finite quantity"),
    (LEAST + '[[event]]\nkind = "crash"\nat = "5 s"\ndevices = 0\n' * 2001, "event", "must have at most 2000 items"),
    (LEAST + '[[link.override]]\nfrom = 0\nto = 1\nmtu = "1 kB"\n' * 2001, "link.override", "at most 2000 items"),
    (
        LEAST.replace("= 4", "= 100000") + 'topology = "complete"',
        "topology",
        "about 1e+10 links of 100000 devices, must be",
    ),
    (LEAST.replace("= 4", "= 99999") + 'topology = { kind = "erdos-renyi", p = 0.5 }', "topology", "at most 20000000"),
    ('extends = "s.toml"', "extends", "must not lead back to the same file"),
    ("extends = 5", "extends", 'must be a file such as "base.toml"'),
    ('extends = "."', "extends", "no such file"),
    ('extends = "none.toml"', "extends", "presets: mnist_2nn, digits_mlp"),
    ('extends = ["a.toml"]', "extends", 'must be a file such as "base.toml"'),
    ("seed = 2026-01-01\n" + LEAST, "seed", "must be a whole number"),
    (LEAST + "link.latency = 10:00:00", "link.latency", 'must be a quantity such as "20 ms"'),
    (b"# " + b"x" * (17 << 20), "s.toml", "is a file of more than 16777216 bytes"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(content: str | bytes, *overrides: str) -> dict[str, str]:
    """Return the text of each problem of a file in the working directory, by its place."""
    path = Path("s.toml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, overrides)
    return {Path(problem.path).name: problem.text for problem in caught.value.problems}


@pytest.mark.parametrize(("setting", "place", "words"), SETTINGS, ids=[setting for setting, _, _ in SETTINGS])
def test_a_wrong_setting_is_answered_with_its_place_and_a_way_out(
    folder: Path, setting: str, place: str, words: str
) -> None:
    found = problems(LEAST, setting)
    assert place in found
    assert words in found[place]


@pytest.mark.parametrize(("content", "place", "words"), FILES, ids=range(len(FILES)))
def test_a_wrong_file_is_answered_with_its_place_and_a_way_out(
    folder: Path, content: str | bytes, place: str, words: str
) -> None:
    found = problems(content)
    assert place in found
    assert words in found[place]


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    (folder / "s.toml").write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load_scenario("s.toml").devices.count == 4


# Sizes


def test_a_long_chain_of_files_that_extend_each_other_ends(folder: Path) -> None:
    for number in range(30):
        (folder / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"')
    assert "must not lead over more than 20 files" in problems('extends = "0.toml"')["extends"]


def test_a_graph_of_many_nodes_is_not_read_for_a_few_devices(folder: Path) -> None:
    nodes = "".join(f'<node id="{i}"/>' for i in range(5000))
    (folder / "g.graphml").write_text(f'<graphml><graph edgedefault="directed">{nodes}</graph></graphml>')
    found = problems(LEAST, 'topology={kind="file",path="g.graphml"}')["topology"]
    assert re.search("has 5000 nodes, devices.count is 4", found)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused(folder: Path) -> None:
    bomb = folder / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (80 << 20,)})
        for _ in range(320):
            member.write(bytes(1 << 20))
    with pytest.raises(
        ScenarioError, match=r"unpacks .* bytes to 335544448, more than 200 times as many, as no real data"
    ):
        Npz(path=bomb).load()


def test_an_idx_file_is_read_no_further_than_it_announces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pl_async.learning.data import Mnist

    monkeypatch.setenv("P2PL_DATA", str(folder))
    (folder / "mnist").mkdir()
    head = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (2, 28, 28))
    for name in Mnist.files:
        (folder / "mnist" / name).write_bytes(gzip.compress(head + bytes(1 << 24)))
    with pytest.raises(ScenarioError, match="1568 bytes, but holds more"):
        Mnist().load()


@pytest.mark.parametrize("packed", [False, True])
def test_a_trace_is_read_no_further_than_its_limit(folder: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr("p2pl_async.basics.tracefiles.MOST_TRACE_BYTES", 1000)
    data = b"time,loss\n" + b"".join(b"%d,0.5\n" % t for t in range(200))
    (folder / "t.csv").write_bytes(gzip.compress(data) if packed else data)
    found = problems(LEAST, 'link.loss={kind="trace",path="t.csv",column="loss"}')
    assert any("t.csv: holds more than 1000 bytes; thin it out" in text for text in found.values()), found
