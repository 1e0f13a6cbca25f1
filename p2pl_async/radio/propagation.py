"""From positions to received power, noise and loss, at any instant and for any pair of devices.

    power_i + gain_i + gain_j - loss(d_ij) - shadowing_ij - hardware_i - hardware_j + fading_ij(t)

Traffic has no influence. Hardware is a number per device, shadowing a function of a pair and of the
path lengths or places of the two, fading a function of a pair, of the coherence time that an instant lies in and, where
channels fade apart (`coherent_channels`), of the channel. All three are looked up, not drawn in turn, so the answers
don't depend on the order of the questions, and one more device changes nothing between the others.

Shadowing and fading of a pair are the same both ways. The two directions differ by the powers, noise
figures and hardware of the two radios.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Floats
from p2pl_async.basics.randomness import uniform_at, uniforms_at
from p2pl_async.radio.kept import keep_row
from p2pl_async.radio.motion import Motion, distances
from p2pl_async.radio.phy import Phy, noise_power
from p2pl_async.radio.settings import SPEED_OF_LIGHT, NoFading, RadioModel, Shadowing
from p2pl_async.radio.shadowing import MOST, FieldShadows, PairShadows, Shadows, normals

_BAND = 1 << 22  # more than there are devices: pairs of further bands have numbers beyond
_BEST_FADE = 19.0  # dB; no gain of fading is larger: at 2^-53 from 1, Rayleigh has 15.7 dB, Nakagami of m = 0.5 18.4


@dataclass(frozen=True)
class Transceivers:
    """What differs between devices, by id; see `RadioSettings`.

    Attributes:
        power: dBm, shape (n,).
        noise_figure: dB, shape (n,).
        antenna_gain: dB, shape (n,).
    """

    power: Floats
    noise_figure: Floats
    antenna_gain: Floats

    @classmethod
    def alike(cls, settings: RadioModel, n: int) -> Transceivers:
        """Return the transceivers of `n` devices that are all as the table says."""
        figure = settings.phy.typical_noise_figure if settings.noise_figure is None else settings.noise_figure
        return cls(np.full(n, settings.power), np.full(n, figure), np.full(n, settings.antenna_gain))


class Propagation:
    """Powers, noise and losses between all devices of a run.

    Args:
        settings: of the radios.
        motion: where the devices are.
        seed: of the run; streams "hardware", "shadowing" and "fading".
        transceivers: differences between devices; none by default.
    """

    def __init__(
        self, settings: RadioModel, motion: Motion, seed: int, transceivers: Transceivers | None = None
    ) -> None:
        devices = Transceivers.alike(settings, motion.n) if transceivers is None else transceivers
        self.settings = settings
        self.motion = motion
        self.n = motion.n
        self.phy = settings.phy
        self.is_constant = not motion.moves and isinstance(settings.fading, NoFading)  # powers never change
        self._seed = seed
        self._frequency = settings.carrier
        self._fading = settings.fading
        self._block = settings.fading.block(settings.carrier)
        self.is_selective = getattr(settings.fading, "coherent_channels", None) is not None  # channels fade apart
        ids = np.arange(self.n)
        spread = settings.asymmetry
        self._tx = devices.power + devices.antenna_gain - spread.tx * normals(uniforms_at(seed, "hardware", ids, 0, 0))
        self._rx = devices.antenna_gain - spread.rx * normals(uniforms_at(seed, "hardware", ids, 1, 0))
        self._noise = noise_power(settings.noise_bandwidth, devices.noise_figure)
        self._noises: list[float] = self._noise.tolist()
        self._typical = None if self._block is None else settings.fading.gains((np.arange(256) + 0.5) / 256)
        self.best_fade = 0.0 if self._block is None else _BEST_FADE
        self._sd = 0.0 if settings.shadowing is None else settings.shadowing.sd
        self._ids = ids
        self._rows: dict[int, tuple[float, Floats]] = {}  # device -> instant, mean powers then
        self._outside: dict[tuple[float, ...], Floats] = {}  # powers of senders at places, if no device moves
        self._apart: dict[tuple[int, int], float] = {}  # distances in m, if no device moves
        self._gains: dict[int, tuple[int, Floats]] = {}  # device, on a band -> number of the coherence time, gains
        self._shadows = None if settings.shadowing is None else _shadows(settings.shadowing, motion, seed)

    def best_snr(self, src: int, dst: int, distance: float) -> float:
        """Return the most power over noise, in dB, that shadowing and fading allow at a distance in m."""
        loss = float(self.settings.path_loss.loss(distance, self._frequency)) - MOST * self._sd
        return float(self._tx[src] + self._rx[dst] - self._noise[dst]) - loss + self.best_fade

    # All receivers of one sender

    def powers(self, src: int, at: float, channel: int = 0) -> Floats:
        """Return the power that each device receives from `src` at the instant `at`, on a channel.

        Returns:
            dBm, shape (n,); -inf for `src` itself. Don't change it.
        """
        mean = self.mean_powers(src, at)
        if self._block is None:
            return mean
        block, band = _block_number(at, self._block), _BAND * self._fading.band(channel)
        kept = self._gains.get(band + src)
        if kept is None or kept[0] != block:
            low, high = band + np.minimum(src, self._ids), np.maximum(src, self._ids)
            kept = block, self._decibels(uniforms_at(self._seed, "fading", low, high, np.uint64(block)))
            keep_row(self._gains, band + src, kept)
        return mean + kept[1]

    def mean_powers(self, src: int, at: float) -> Floats:
        """Return the powers without fading; as `powers`."""
        kept = self._rows.get(src)
        if kept is None or (self.motion.moves and kept[0] != at):
            points, gone = self.motion.at(at)
            apart = distances(points, points[src])
            row = self._tx[src] + self._rx - self.settings.path_loss.loss(apart, self._frequency)
            if self._shadows is not None:
                row -= self._sd * self._shadows.row(src, points, gone)
            row[src] = -math.inf
            kept = at, row
            keep_row(self._rows, src, kept)
        return kept[1]

    def powers_from(self, place: Sequence[float], power: float, at: float) -> Floats:
        """Return the power that each device receives from a sender that is none of them, without shadowing and fading.

        Args:
            place: of the sender, (x, y) or (x, y, z) in meters.
            power: that it sends, in dBm.
            at: the instant.

        Returns:
            dBm, shape (n,).
        """
        known = self._outside.get((*place, power))
        if known is not None:
            return known
        x, y, z = (*place, 0.0)[:3]
        points, _ = self.motion.at(at)
        loss = self.settings.path_loss.loss(distances(points, np.array([x, y, z])), self._frequency)
        found: Floats = power + self._rx - loss
        if not self.motion.moves:
            self._outside[(*place, power)] = found
        return found

    def snrs(self, src: int, at: float) -> Floats:
        """Return power over noise at each device, in dB, shape (n,)."""
        return self.powers(src, at) - self._noise

    def mean_snrs(self, src: int, at: float) -> Floats:
        """Return mean power over noise at each device, in dB, shape (n,)."""
        return self.mean_powers(src, at) - self._noise

    def distances(self, src: int, at: float) -> Floats:
        """Return the distance of each device from `src`, in meters, shape (n,)."""
        points, _ = self.motion.at(at)
        return distances(points, points[src])

    def mean_snr_table(self, at: float) -> Floats:
        """Return mean power over noise of every link, in dB, shape (n, n): row src, column dst; -inf to itself."""
        points, gone = self.motion.at(at)
        low, high = np.triu_indices(self.n, 1)
        loss = self.settings.path_loss.loss(distances(points[low], points[high]), self._frequency)
        if self._shadows is not None:
            loss += self._sd * self._shadows.table(points, gone)
        table = np.full((self.n, self.n), math.inf)
        table[low, high] = table[high, low] = loss
        return np.asarray(self._tx[:, None] + (self._rx - self._noise) - table, dtype=np.float64)

    # One pair

    def power(self, src: int, dst: int, at: float) -> float:
        """Return the power that `dst` receives from `src`, in dBm."""
        return self.snr(src, dst, at) + self.noise(dst)

    def noise(self, dst: int) -> float:
        """Return the noise of a receiver in dBm."""
        return self._noises[dst]

    def snr(self, src: int, dst: int, at: float, channel: int = 0) -> float:
        """Return power over noise in dB."""
        return self.mean_snr(src, dst, at) + self.fade(src, dst, at, channel)

    def mean_snr(self, src: int, dst: int, at: float) -> float:
        """Return mean power over noise in dB: without fading."""
        here, gone = self.motion.place(src, at)
        there, gone_there = self.motion.place(dst, at)
        loss = float(self.settings.path_loss.loss(math.dist(here, there), self._frequency))
        if self._shadows is not None:
            loss += self._sd * self._shadows.pair(src, dst, here, there, gone + gone_there)
        return float(self._tx[src] + self._rx[dst] - self._noise[dst]) - loss

    def fade(self, src: int, dst: int, at: float, channel: int = 0) -> float:
        """Return the gain of fading on a channel in dB; 0 without."""
        if self._block is None:
            return 0.0
        block, band = _block_number(at, self._block), _BAND * self._fading.band(channel)
        uniform = uniform_at(self._seed, "fading", band + min(src, dst), max(src, dst), block)
        return 10 * math.log10(float(self._fading.gains(np.array(uniform))))

    def pair_snrs(self, src: int, dst: int, times: Floats, mean: float = math.nan) -> Floats:
        """Return power over noise in dB at many instants.

        Args:
            src: the sender.
            dst: the receiver.
            times: instants, shape (k,).
            mean: what `mean_snr` gives, if no device moves.

        Returns:
            Shape (k,).
        """
        means = self._mean_snrs(src, dst, times) if math.isnan(mean) else np.full(times.shape, mean)
        return means if self._block is None else means + self._fades(src, dst, times)

    def distance(self, src: int, dst: int, at: float) -> float:
        """Return the distance of two devices, in meters."""
        if not self.motion.moves:
            found = self._apart.get((src, dst))
            if found is not None:
                return found
        apart = math.dist(self.motion.place(src, at)[0], self.motion.place(dst, at)[0])
        if not self.motion.moves:
            self._apart[src, dst] = apart
        return apart

    def foreseen_snr(self, src: int, dst: int, at: float, channel: int = 0) -> tuple[float, Floats | None]:
        """Return the SNR in dB that a sender may know of a frame sent soon, and equally likely gains on top of it.

        Fading that is drawn for each frame can't be foreseen; else there are no gains.
        """
        if self._block == 0:
            return self.mean_snr(src, dst, at), self._typical
        return self.snr(src, dst, at, channel), None

    def delay(self, src: int, dst: int, at: float) -> float:
        """Return the travel time of the signal, in seconds."""
        return self.distance(src, dst, at) / SPEED_OF_LIGHT

    def error(self, src: int, dst: int, size: int, sinr: float) -> float:
        """Return the probability that a frame is lost.

        Args:
            src: the sender.
            dst: the receiver.
            size: bytes on the air.
            sinr: signal over noise, or over noise and interference, in dB.
        """
        return float(self.phy.error(sinr, size))

    def mean_error(self, snr: float, size: int) -> float:
        """Return the probability that a frame is lost at a mean SNR in dB, averaged over fading, if there is any."""
        return float(
            self.phy.error(snr, size) if self._typical is None else self.phy.mean_error(snr, size, self._typical)
        )

    def link(self, src: int, dst: int) -> RadioLink:
        """Return the view of one link, for `Link(radio=...)`."""
        return RadioLink(self, src, dst)

    # Below

    def _fades(self, src: int, dst: int, times: Floats) -> Floats:
        """Return gains at instants in dB, shape (k,)."""
        assert self._block is not None
        low, high = min(src, dst), max(src, dst)
        return self._decibels(uniforms_at(self._seed, "fading", low, high, _block_numbers(times, self._block)))

    def _decibels(self, uniforms: Floats) -> Floats:
        """Return gains of fading in dB."""
        return np.asarray(10 * np.log10(self._fading.gains(uniforms)), dtype=np.float64)

    def _mean_snrs(self, src: int, dst: int, times: Floats) -> Floats:
        here, gone = self.motion.tracks[src].along(times)
        there, gone_there = self.motion.tracks[dst].along(times)
        loss = self.settings.path_loss.loss(distances(there, here), self._frequency)
        if self._shadows is not None:
            loss = loss + self._sd * self._shadows.along(src, dst, here, there, gone + gone_there)
        return np.asarray(self._tx[src] + self._rx[dst] - self._noise[dst] - loss, dtype=np.float64)


class RadioLink:
    """Error rates of one link, by positions, noise and fading.

    Args:
        propagation: of all devices.
        src: the sender.
        dst: the receiver.
    """

    __slots__ = ("_delay", "_error", "_known", "_mean", "_propagation", "_size", "dst", "src")

    def __init__(self, propagation: Propagation, src: int, dst: int) -> None:
        self.src = src
        self.dst = dst
        self._propagation = propagation
        self._mean = math.nan if propagation.motion.moves else propagation.mean_snr(src, dst, 0.0)
        self._delay = math.nan if propagation.motion.moves else propagation.delay(src, dst, 0.0)
        self._known: dict[int, float] = {}  # size -> error rate, if powers never change
        self._size, self._error = -1, 0.0  # the ones looked up last, in easier reach

    def error_rate(self, at: float, size: int) -> float:
        """Return the probability that a frame of `size` bytes, sent at the instant `at`, is lost to noise."""
        if size == self._size:
            return self._error
        known = self._known.get(size)
        if known is not None:
            self._size, self._error = size, known
            return known
        waves, src, dst = self._propagation, self.src, self.dst
        mean = waves.mean_snr(src, dst, at) if math.isnan(self._mean) else self._mean
        rate = float(waves.phy.error(mean + waves.fade(src, dst, at), size))
        if self._propagation.is_constant:
            self._known[size] = rate
        return rate

    def error_rates(self, at: Floats, size: int) -> Floats:
        """Return the same for frames sent at the instants `at`, shape (k,)."""
        snr = self._propagation.pair_snrs(self.src, self.dst, at, self._mean)
        return self._propagation.phy.error(snr, size)

    def error_at(self, sinr: float, size: int, phy: Phy | None = None) -> float:
        """Return the probability that a frame of `size` bytes is lost at a ratio of `sinr` dB; by default of `phy`."""
        return float((phy or self._propagation.phy).error(sinr, size))

    def heard(self, at: float) -> tuple[float, float, float]:
        """Return received power in dBm, its ratio to noise in dB, and the distance in meters."""
        waves, src, dst = self._propagation, self.src, self.dst
        mean = waves.mean_snr(src, dst, at) if math.isnan(self._mean) else self._mean
        snr = mean + waves.fade(src, dst, at)
        return snr + waves.noise(dst), snr, waves.distance(src, dst, at)

    def lost_until(self, at: float, size: int) -> float:
        """Return until when every frame of `size` bytes is lost, whatever fading does; `at` if some may arrive."""
        waves, motion = self._propagation, self._propagation.motion
        if not motion.moves:
            best = waves.mean_snr(self.src, self.dst, at) + waves.best_fade
            return math.inf if waves.phy.error(best, size) == 1 else at
        until, closing = math.inf, 0.0
        for device in (self.src, self.dst):
            _, end, _, velocity, _ = motion.tracks[device].leg(at)
            until, closing = min(until, end), closing + float(np.linalg.norm(velocity))
        nearest = waves.distance(self.src, self.dst, at)
        if closing:  # while they walk straight on, they don't come nearer by more than a tenth
            until = min(until, at + 0.1 * nearest / closing)
            nearest *= 0.9
        return until if waves.phy.error(waves.best_snr(self.src, self.dst, nearest), size) == 1 else at

    def delay(self, at: float) -> float:
        """Return the travel time of the signal, in seconds."""
        delay = self._delay
        return self._propagation.delay(self.src, self.dst, at) if delay != delay else delay  # nan: they move


def _block_number(at: float, length: float) -> int:
    """Return the number of the coherence time that an instant lies in; with a length of 0 s, each has its own."""
    if length == 0:
        return int(struct.unpack("<Q", struct.pack("<d", at + 0.0))[0])  # + 0.0 turns -0.0 into 0.0, the same instant
    return math.floor(at / length)


def _block_numbers(times: Floats, length: float) -> NDArray[np.uint64]:
    if length == 0:
        return np.asarray(times + 0.0).view(np.uint64)
    return np.floor(times / length).astype(np.uint64)


def _shadows(settings: Shadowing, motion: Motion, seed: int) -> Shadows:
    if settings.correlated:
        return FieldShadows(settings, motion.n, seed)
    return PairShadows(settings, motion.n, seed, moves=motion.moves)
