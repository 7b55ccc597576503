"""Which random numbers a sample gets: a key that no batch, order, rank or clock can change."""

from hashlib import blake2b


def draw_seed(run_seed: int, step: int, request_id: str, sample: int) -> int:
    """Signed 64-bit key of one sample's draws; with the position in the sequence it names every draw.

    The numbers stand before the id, each with its separator: two different quadruples never spell the same text.
    """
    text = f"{run_seed}/{step}/{sample}/{request_id}"
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little", signed=True)
