"""Which random number belongs to this token at this place of this choice?

Sampling adds a Gumbel-distributed number to every logit and takes the largest: that draws from the
softmax. Here the number is a pure function

    gumbel(seed, choice, position, token id)

so the same seed gives the same text whatever else is in the batch, in which row, and whether the
whole vocabulary or a short list of candidates is looked at.

    key     = BLAKE2b(seed, choice, position), two 32-bit words: strong, once per row
    bits    = mix(mix(token · φ + key₀) xor key₁): cheap, once per token; mix is a bijection of
              32-bit words, three shifts and two multiplications (constants: C. Wellons,
              "Prospecting for hash functions", 2018, lowest measured bias of that form)
    gumbel  = -log(E),   E = -log(1 - u) exponentially distributed,   u = (bits + ½) / 2³¹

Winning tokens have a small E, hence a small u, where float32 is finest: no rounding at the end that
decides. 32-bit arithmetic is what every device has.

Shape suffixes: R rows · C candidates (token ids) per row.
"""

from __future__ import annotations

import hashlib
import struct

import torch

_KEY_INPUT = struct.Struct("<QQQ")
_KEY = struct.Struct("<ii")
_WORD = (1 << 64) - 1


def _signed(word: int) -> int:
    """The same 32 bits, as the signed number that torch wants."""
    return word - (1 << 32) if word >= 1 << 31 else word


_GOLDEN = _signed(0x9E3779B9)
_MIX_A = _signed(0x7FEB352D)
_MIX_B = _signed(0x846CA68B)
_LARGEST_BELOW_ONE = 1.0 - 2.0**-24


def noise_key(seed: int, choice: int, position: int) -> tuple[int, int]:
    """The two words that all noise of one row is derived from."""
    data = _KEY_INPUT.pack(seed & _WORD, choice, position)
    return _KEY.unpack(hashlib.blake2b(data, digest_size=_KEY.size).digest())


def gumbel(keys: list[tuple[int, int]], token_ids_RC: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise for each token of each row: float32 [R, C].

    `token_ids_RC` is [R, C], or [1, C] when all rows look at the same tokens.
    """
    keys_R2 = torch.tensor(keys, dtype=torch.int32, device=token_ids_RC.device)
    bits_RC = token_ids_RC.to(torch.int32) * _GOLDEN + keys_R2[:, :1]
    _mix_(bits_RC)
    bits_RC ^= keys_R2[:, 1:]
    _mix_(bits_RC)
    uniform_RC = (bits_RC & 0x7FFFFFFF).to(torch.float32)
    uniform_RC.add_(0.5).mul_(2.0**-31).clamp_(max=_LARGEST_BELOW_ONE)
    return uniform_RC.neg_().log1p_().neg_().log_().neg_()


def _mix_(words: torch.Tensor) -> None:
    """Scrambles 32-bit words in place. Torch shifts arithmetically, hence the masks."""
    words ^= (words >> 16) & 0xFFFF
    words *= _MIX_A
    words ^= (words >> 15) & 0x1FFFF
    words *= _MIX_B
    words ^= (words >> 16) & 0xFFFF
