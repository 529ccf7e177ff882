"""What the model of scaling is fed with: what training takes on one core, measured, and what networks do, assumed.

`MODELS`: `python benches/scaling/measure.py compute --preset NAME`, processor seconds of one core of a Xeon (Sapphire
Rapids, AMX) in bfloat16; put others there for other machines. `NETWORKS`: rates by name, less 6 % for headers;
latencies and overheads as MPI has them over sockets, or over cards that read memory by themselves. Their seconds of a
core for each byte were measured between two network namespaces (`measure.py network`, the rows of 256 KiB).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """What joins the machines.

    bandwidth: bytes/s of one machine, each way; latency: seconds from one program to another; overhead: seconds
    between the beginnings of two messages; socket_seconds: of a core, for each byte sent or received (0 where the
    network card reads memory by itself).
    """

    name: str
    bandwidth: float
    latency: float
    overhead: float
    socket_seconds: float

    @property
    def speed(self) -> float:
        """Bytes/s each way that one process gets: the link's, or what one core can copy in and out of sockets."""
        return min(self.bandwidth, 0.5 / self.socket_seconds) if self.socket_seconds else self.bandwidth


@dataclass(frozen=True)
class Compute:
    """What training one model takes on one core.

    embedding_parameters: those of the token and position tables, finished last in the backward pass; head_share: the
    output projection's part of the backward pass, which comes first. pass_seconds, row_seconds: of forward and
    backward, `backward_share` of it backwards. sum_speed: bytes/s of gradients summed. fixed_bytes: weights,
    gradients and what does not grow with the rows of a pass, without moments; row_bytes: activations of a row.
    """

    name: str
    parameters: int
    embedding_parameters: int
    layers: int
    context: int
    head_share: float
    pass_seconds: float
    row_seconds: float
    backward_share: float
    update_seconds: float
    sum_speed: float
    fixed_bytes: int
    row_bytes: int


_SOCKET = 0.3e-9

NETWORKS = {
    network.name: network
    for network in (
        Network("100m", 11.8e6, 50e-6, 10e-6, _SOCKET),
        Network("1g", 118e6, 50e-6, 10e-6, _SOCKET),
        Network("10g", 1.18e9, 25e-6, 5e-6, _SOCKET),
        Network("25g", 2.94e9, 20e-6, 5e-6, _SOCKET),
        Network("100g", 11.8e9, 15e-6, 5e-6, _SOCKET),
        Network("infiniband", 23.5e9, 2e-6, 0.5e-6, 0.0),  # HDR, 200 Gbit/s
    )
}

MODELS = {
    "nano": Compute(
        name="nano", parameters=1_858_304,
        embedding_parameters=1_064_960, layers=4, context=128,
        head_share=0.552, pass_seconds=0.0025,
        row_seconds=0.0094, backward_share=0.54,
        update_seconds=0.0016, sum_speed=8.6e9,
        fixed_bytes=27_312_573, row_bytes=3_960_337,
    ),
    "d6": Compute(
        name="d6", parameters=13_768_320,
        embedding_parameters=3_145_728, layers=6, context=256,
        head_share=0.219, pass_seconds=0.0012,
        row_seconds=0.0823, backward_share=0.70,
        update_seconds=0.0156, sum_speed=6.9e9,
        fixed_bytes=176_867_906, row_bytes=21_518_932,
    ),
    "d12": Compute(
        name="d12", parameters=91_246_848,
        embedding_parameters=6_291_456, layers=12, context=512,
        head_share=0.066, pass_seconds=0.0000,
        row_seconds=1.1289, backward_share=0.71,
        update_seconds=0.1044, sum_speed=5.9e9,
        fixed_bytes=746_751_999, row_bytes=146_216_960,
    ),
    "gpt2": Compute(
        name="gpt2", parameters=124_439_808,
        embedding_parameters=39_383_808, layers=12, context=1024,
        head_share=0.290, pass_seconds=0.0000,
        row_seconds=3.4135, backward_share=0.66,
        update_seconds=0.1440, sum_speed=7.4e9,
        fixed_bytes=1_098_444_800, row_bytes=258_748_416,
    ),
}  # fmt: skip
