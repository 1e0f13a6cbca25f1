"""The `[energy]` table: currents of a device's radio in each state, power of its processor, its battery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.limits import MOST_ITEMS
from p2pl_async.basics.settings import Settings, mistake
from p2pl_async.basics.units import CHARGE, POWER, VOLTAGE, Amperes, PositiveJoules, Volts, Watts, parse

Between = Callable[[float, float], Floats]
"""(start, end) -> the intervals that lie in it, shape (n, 2)."""


class Doze(NamedTuple):
    """A radio that sleeps if there is nothing to send or receive, but for short wakings: their shares of that time."""

    tx: float
    rx: float
    idle: float = 0.0  # listening in vain


STATES = ("off", "tx", "sleep", "rx", "idle")

PRESETS: dict[str, dict[str, str]] = {
    "nrf52840": {"voltage": "3 V", "tx": "4.8 mA", "rx": "4.6 mA", "idle": "4.6 mA", "sleep": "1.5 uA"},
    "cc2420": {"voltage": "3 V", "tx": "17.4 mA", "rx": "18.8 mA", "idle": "18.8 mA", "sleep": "1 uA"},
    "esp32-s2": {"voltage": "3.3 V", "tx": "135 mA", "rx": "63 mA", "idle": "63 mA", "sleep": "550 uA"},
    "sx1276": {"voltage": "3.3 V", "tx": "29 mA", "rx": "11 mA", "idle": "1.6 mA", "sleep": "0.2 uA"},
    "nrf9160": {"voltage": "3.7 V", "tx": "107.5 mA", "idle": "18 uA", "sleep": "2.7 uA"},
}
"""Radios by name. nrf52840: BLE and 802.15.4 at 0 dBm with DC/DC (Nordic's power profiler; rx from memory).
cc2420: 802.15.4 at 0 dBm (data sheet, from memory). esp32-s2: Wi-Fi HT20 MCS7 at 13 dBm, light sleep (Espressif,
ESP32-S2-WROOM data sheet v1.1, tables 7 and 8). sx1276: LoRa at 13 dBm, idle is standby (data sheet, from memory).
nrf9160: LTE-M at 23 dBm, mean of the uplink, eDRX of 82 s, PSM; the voltage is assumed (Nordic, nRF9160 product
specification), and it has no current for receiving."""

RadioName = Literal["nrf52840", "cc2420", "esp32-s2", "sx1276", "nrf9160"]


class Currents(Settings):
    """Base of what a radio draws in each state."""

    preset: RadioName | None = Field(default=None, description="radio whose values this table starts from")
    voltage: Volts = Field(description="supply voltage")
    tx: Amperes = Field(description="current while transmitting")
    rx: Amperes = Field(description="current while receiving")
    idle: Amperes = Field(description="current while listening to nothing")
    sleep: Amperes = Field(
        default=0.0,
        description="current while the radio sleeps: in the off times of an outage of kind duty-cycle, and between the "
        "events of connections",
    )

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("preset"), str):
            value = {**PRESETS.get(value["preset"], {}), **value}
        return _by_voltage(value) if isinstance(value, Mapping) else value

    @property
    def most(self) -> float:
        """The largest power that the radio can draw, in watts."""
        return self.voltage * max(self.tx, self.rx, self.idle, self.sleep)


class RadioEnergy(Currents):
    """What one of several radios of a device draws; its voltage is that of the device, if neither it nor a preset says.

    What is drawn may be a power, as in `[energy]`.
    """


class Energy(Currents):
    """The `[energy]` table: currents and power that a device draws, and its battery.

    What is drawn may also be a power ("52 mW"), and what a battery holds a charge ("225 mAh"): by the voltage, a
    current and an energy follow.

    The currents are those of all radios of a device together: a device with several transmits while any of them does.
    With `radio` each is counted by itself, whatever the others do, and the times of a device's states are sums over
    its radios; all draw from its one battery.
    """

    cpu: Watts = Field(default=0.0, description="power of training, in addition to the radio's")
    battery: Annotated[
        PositiveJoules | None, Field(description="energy that it holds; when it is empty, the device is gone for good")
    ] = None
    radio: Annotated[dict[str, RadioEnergy], Field(max_length=MOST_ITEMS)] = Field(
        default={},
        description='what a radio draws that is not as the others, by the name of its [air.NAME], or "main"',
    )

    @model_validator(mode="before")
    @classmethod
    def _under_voltage(cls, value: Any) -> Any:
        """Give radios that say nothing of their voltage that of the device."""
        if not isinstance(value, Mapping) or not isinstance(value.get("radio"), Mapping):
            return value
        own = {**PRESETS.get(str(value.get("preset")), {}), **value}.get("voltage")
        known = {} if own is None else {"voltage": own}
        radios = {
            name: {**({} if "preset" in one else known), **one} if isinstance(one, Mapping) else one
            for name, one in value["radio"].items()
        }
        return {**value, "radio": radios}

    @model_validator(mode="after")
    def _check(self) -> Energy:
        if (
            self.battery is not None
            and self.most == 0
            and self.cpu == 0
            and not any(r.most for r in self.radio.values())
        ):
            raise mistake("battery never runs out where nothing draws any current; give tx, rx, idle or cpu")
        return self


def _by_voltage(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table in which powers of the radio are currents, and a charge is an energy; others as they are."""
    written = dict(table)
    voltage = _number(table.get("voltage"), VOLTAGE)
    if not voltage:  # the field says what is wrong with it
        return written
    for key in STATES[1:]:
        power = _number(table.get(key), POWER)
        if power is not None:
            written[key] = f"{power / voltage!r} A"
    charge = _number(table.get("battery"), CHARGE)
    if charge is not None:
        written["battery"] = f"{charge * voltage!r} J"
    return written


def _number(text: object, units: Mapping[str, float]) -> float | None:
    """Return a quantity in one of these units; None if it is no such thing."""
    try:
        return parse(text, units, "") if isinstance(text, str) else None
    except PydanticCustomError:
        return None
