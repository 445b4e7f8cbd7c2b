"""Captions as sound: spoken by espeak-ng where it is installed, otherwise in a tone code.

The tone code gives every byte of the UTF-8 text 25 ms of two sine tones: 400 + 80 h Hz for its high four bits
h, 2000 + 80 l Hz for its low four bits l. All are whole multiples of 40 Hz, so that the 400 samples of a byte
at 16 kHz tell them apart exactly; `decode` reads the text back.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave

import numpy as np

from mmjax.errors import UserError

RATE = 16000  # samples per second
SAMPLES = 400  # of one byte
HIGH, LOW, STEP = 400, 2000, 80  # Hz
ESPEAK, TONES = "espeak-ng", "tone code"


def voice() -> str:
    """What `speak` uses here: ESPEAK or TONES."""
    return ESPEAK if shutil.which(ESPEAK) else TONES


def speak(text: str, voice: str) -> bytes:
    """A WAV file of `text`, 16 bit, one channel; at 22,050 Hz from espeak-ng, else at RATE.

    Raises:
      UserError: espeak-ng is asked for and fails.
    """
    return _espeak(text) if voice == ESPEAK else encode(text)


def encode(text: str) -> bytes:
    """A WAV file of `text` in the tone code."""
    codes = np.frombuffer(text.encode(), np.uint8)[:, None].astype(np.float64)
    seconds = np.arange(SAMPLES) / RATE
    tones = [start + STEP * half for start, half in ((HIGH, codes // 16), (LOW, codes % 16))]
    signal = sum(np.sin(2 * np.pi * tone * seconds) for tone in tones)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes((signal.ravel() * 12000).astype("<i2").tobytes())
    return file.getvalue()


def decode(sound: bytes) -> str:
    """The text of a WAV file in the tone code.

    Raises:
      UserError: not a WAV file of this code.
    """
    try:
        with wave.open(io.BytesIO(sound)) as reader:
            shape = reader.getframerate(), reader.getnchannels(), reader.getsampwidth()
            signal = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
    except (wave.Error, EOFError) as error:
        raise UserError(f"the sound is not a WAV file ({error}): give one in the tone code.") from error
    if shape != (RATE, 1, 2) or len(signal) % SAMPLES:
        raise UserError(f"the sound is not in the tone code: that has {RATE} Hz, one channel and 16 bits.")
    strength = np.abs(np.fft.rfft(signal.reshape(-1, SAMPLES), axis=1))
    width = RATE // SAMPLES  # Hz per bin
    high, low = (
        strength[:, start // width : (start + 16 * STEP) // width : STEP // width].argmax(axis=1)
        for start in (HIGH, LOW)
    )
    return (16 * high + low).astype(np.uint8).tobytes().decode("utf-8", "replace")


def _espeak(text: str) -> bytes:
    result = subprocess.run([ESPEAK, "--stdout", "--stdin"], input=text.encode(), capture_output=True)
    if result.returncode:
        raise UserError(f"espeak-ng failed ({result.stderr.decode(errors='replace').strip()[:80]}).")
    return result.stdout
