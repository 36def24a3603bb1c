"""Melody instruments and the tanpura.

Conventions
-----------
Signals are float32 of shape (samples,) at `SR` hertz, within about -1..1 for one note at level 1. `hertz` is
a pitch curve of shape (samples,). `level` is an amplitude curve of the same shape, 0..1.

All instruments except the santoor are sums of partials, some with noise and body resonances added. The sum
is a polynomial in one phasor z = exp(2 pi i phase), since the k-th partial is its k-th power. So glides,
vibrato and decay need no extra computation, and there are no clicks between notes. Partials above `TOP`
hertz are left out to avoid aliasing.
"""

import numpy as np
from scipy.signal import lfilter

__all__ = [
    "SR",
    "VOICES",
    "bansuri",
    "harmonium",
    "santoor",
    "sarangi",
    "sitar",
    "strings",
    "tanpura",
    "voice",
]

SR = 16_000
TOP = 7_200.0
_BODY = ((290, 90, 1.0), (560, 120, 1.2), (1_050, 220, 0.8), (2_300, 500, 0.5), (3_600, 900, 0.3))
_VOWELS = {
    "a": ((700, 110, 1.0), (1_150, 130, 0.6), (2_600, 200, 0.3), (3_400, 300, 0.2)),
    "o": ((450, 90, 1.0), (800, 110, 0.5), (2_550, 200, 0.12), (3_300, 300, 0.08)),
}


def phasor(hertz: np.ndarray) -> np.ndarray:
    """exp(2 pi i phase) for a pitch curve in hertz: complex64 of the same shape."""
    phase = np.cumsum(hertz / SR, dtype=np.float64)
    angle = (2 * np.pi * (phase - np.floor(phase))).astype(np.float32)
    turning = np.empty(angle.shape, np.complex64)
    turning.real, turning.imag = np.cos(angle), np.sin(angle)
    return turning


def partials(z: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """Additive synthesis: imaginary part of sum_k amplitudes[k-1] z^k, by Horner's rule.

    Parameters
    ----------
    z
        Phasor, complex64 of shape (samples,).
    amplitudes
        Real or complex, of shape (partials,), or (partials, samples) for a spectrum that changes in time.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    total = np.zeros_like(z)
    for amplitude in np.asarray(amplitudes, np.complex64)[::-1]:
        total += amplitude
        total *= z
    return total.imag


def count_partials(hertz: np.ndarray, most: int) -> int:
    """Number of partials, 1 to `most`, with frequencies below `TOP` at the highest pitch of a curve."""
    return max(1, min(most, int(TOP / hertz.max())))


def resonances(signal: np.ndarray, peaks: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """Filter a signal with parallel two-pole resonators, which model a body or a vocal tract.

    Each of the `peaks` is (frequency in hertz, bandwidth in hertz, gain).
    """
    out = np.zeros_like(signal)
    for hertz, width, gain in peaks:
        radius = np.exp(-np.pi * width / SR)
        poles = [1, -2 * radius * np.cos(2 * np.pi * hertz / SR), radius**2]
        out += gain * lfilter(np.float32([1 - radius, 0, radius - 1]), np.float32(poles), signal)
    return out


def spread(amplitudes: np.ndarray) -> np.ndarray:
    """Give each partial its own phase (Schroeder, 1970), so that their peaks do not coincide at the start."""
    k = np.arange(1, len(amplitudes) + 1)
    return (amplitudes.T * np.exp(-1j * np.pi * k**2 / len(k)).astype(np.complex64)).T


def noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """White noise with standard deviation 1, float32 of shape (samples,)."""
    return rng.standard_normal(samples, dtype=np.float32)


def bansuri(hertz: np.ndarray, level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bamboo flute: few partials that brighten with `level`, plus breath noise."""
    n = count_partials(hertz, 6)
    tone = partials(phasor(hertz) * (0.35 + 0.65 * level), np.float32([1, 0.55, 0.3, 0.1, 0.06, 0.03][:n]))
    breath = resonances(
        noise(rng, len(hertz)), ((1_000, 700, 0.4), (2_600, 1_200, 0.25), (4_800, 2_000, 0.1))
    )
    return level * (tone + 0.12 * breath * (0.5 + 0.5 * level))


def sarangi(hertz: np.ndarray, level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bowed string: the sawtooth of Helmholtz motion with bow noise, through a skin-covered body."""
    n = count_partials(hertz, 28)
    saw = partials(phasor(hertz), 1 / np.arange(1, n + 1))
    bow = 1 + 0.5 * lfilter([0.05], [1, -0.95], noise(rng, len(hertz))).astype(np.float32)
    source = level * (saw * bow + 0.05 * noise(rng, len(hertz)))
    return 0.25 * source + 1.2 * resonances(source, _BODY)


def voice(hertz: np.ndarray, level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sung vowels: a glottal source of about -8 dB per octave, through formants drifting between a and o."""
    n = count_partials(hertz, 28)
    source = level * partials(phasor(hertz), np.arange(1, n + 1) ** -1.4)
    source += 0.012 * level * noise(rng, len(hertz))
    knots = np.arange(0, len(hertz) + SR, SR // 2)
    openness = np.interp(np.arange(len(hertz)), knots, rng.uniform(0, 1, len(knots))).astype(np.float32)
    a, o = (resonances(source, _VOWELS[vowel]) for vowel in "ao")
    return 1.6 * (openness * a + (1 - openness) * o)


def harmonium(hertz: np.ndarray, level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two ranks of free reeds a few cents apart and one an octave higher, with unsteady bellows."""
    n = count_partials(2 * hertz, 14)
    reed = np.arange(1, n + 1) ** -0.75 * np.where(np.arange(n) % 2, 0.6, 1.0)
    ranks = ((1.0, 0.5), (2 ** (rng.uniform(2, 6) / 1200), 0.4), (2.0, 0.2))
    tone = sum(gain * partials(phasor(ratio * hertz), reed) for ratio, gain in ranks)
    seconds = np.arange(len(hertz), dtype=np.float32) / SR
    return 0.7 * level * tone * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(0.5, 1.2) * seconds))


def strings(hertz: np.ndarray, level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One part of a string section: two bowed players whose pitches drift by some cents."""
    n = count_partials(hertz, 10)
    seconds = np.arange(len(hertz), dtype=np.float32) / SR
    tone = np.zeros(len(hertz), np.float32)
    for rate in 2 * np.pi * rng.uniform(0.15, 0.6, 2):
        drift = 0.0035 * np.sin(np.float32(rate) * seconds + np.float32(rng.uniform(0, 6)))
        tone += partials(phasor(hertz * (1 + drift)), spread(np.arange(1, n + 1) ** -1.2))
    return 0.5 * level * tone


def sitar(hertz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One plucked note, whose pitch may be bent (meend). High partials decay faster.

    Partial k decays as exp(-(slow + fast k) t), so the sum is a polynomial in z exp(-fast t). The factor
    |sin(pi k p)| models plucking at the share p of the string; the boost of partials 5-9 models the curved
    bridge.
    """
    n = count_partials(hertz, 24)
    k = np.arange(1, n + 1)
    seconds = np.arange(len(hertz), dtype=np.float32) / SR
    shape = np.abs(np.sin(np.pi * k * rng.uniform(0.12, 0.16))) / k**0.8
    shape = shape * (1 + 1.5 * np.exp(-(((k - 7) / 2.5) ** 2)))
    tone = partials(phasor(hertz) * np.exp(-0.45 * seconds), spread(shape)) * np.exp(-1.1 * seconds)
    return 0.8 * tone * _soft_start(len(hertz), 0.002)


def santoor(hertz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One struck note by Karplus and Strong (1983), tuned as in Jaffe and Smith (1983).

    A noise burst circulates in a delay line of SR / hertz samples. A two-point filter removes highs, and
    linear interpolation makes the delay fractional. The pitch is hertz[0] throughout.
    """
    period = SR / float(hertz[0]) - 0.2
    whole = int(period)
    loss = 0.001 ** (1 / (2.5 * hertz[0]))
    loop = loss * np.convolve([0.8, 0.2], [1 - (period - whole), period - whole])
    burst = np.zeros(len(hertz), np.float32)
    burst[:whole] = lfilter([0.3], [1, -0.7], rng.uniform(-1, 1, whole))
    burst[:whole] -= burst[:whole].mean()
    string = lfilter(np.float32([1]), np.float32([1, *np.zeros(whole - 1), *-loop]), burst)
    return 1.5 * string * _soft_start(len(hertz), 0.003)


def tanpura(hertz: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """One tanpura string, with jvari: strong high partials whose centre falls as the string decays.

    The thread under the string makes it graze the bridge. This excites partials that the plucking point
    should not contain (C. V. Raman, Proc. Indian Assoc. Cultiv. Sci. 7, 1921). It sounds like a formant that
    glides down over the first seconds.

    Parameters
    ----------
    hertz
        Pitch of the string.
    samples
        Length of the sound.
    rng
        Draws the strength of each partial.

    Returns
    -------
    np.ndarray
        float32 of shape (samples,).
    """
    n = min(32, int(TOP / hertz))
    k = np.arange(1, n + 1)[:, None]
    hop = SR // 20
    seconds = np.arange(samples // hop + 2) * hop / SR
    centre = 4 + 15 * np.exp(-seconds / 1.1)
    buzz = 0.5 * np.exp(-(((k - centre) / 4.0) ** 2)) * (1 - np.exp(-seconds / 0.08))
    spectrum = (0.6 / k + buzz) * np.exp(-(0.35 + 0.02 * k) * seconds) * rng.uniform(0.8, 1.2, (n, 1))
    knots = spread(spectrum).astype(np.complex64)[..., None]
    ramp = np.arange(hop, dtype=np.float32) / hop
    curves = (knots[:, :-1] + np.diff(knots, axis=1) * ramp).reshape(n, -1)[:, :samples]
    string = partials(phasor(np.full(samples, hertz)), curves)
    return 0.35 * string * _soft_start(samples, 0.01)


def _soft_start(samples: int, seconds: float) -> np.ndarray:
    """A ramp from 0 to 1 over `seconds`, then 1, and a ramp to 0 in the last 5 ms: float32 (samples,)."""
    at = np.arange(samples, dtype=np.float32)
    return np.minimum(1, np.minimum(at / (seconds * SR), (samples - 1 - at) / (0.005 * SR)))


VOICES = {"bansuri": bansuri, "sarangi": sarangi, "voice": voice, "harmonium": harmonium, "strings": strings}
