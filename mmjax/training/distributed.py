"""Start-up of a run on several hosts, and what differs between them afterwards.

JAX waits for all processes of a run without saying for whom, and aborts the program when one is missing. So
a roll is called first, on the port that JAX is about to use: every process tells process 0 its number and its
host, and all of them learn who is missing.

    process i                          process 0
    {"index": i, "count": n, ...}  ->
                                   <-  {"hosts": {...}, "problem": ""}   once all came, or at the timeout
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mmjax.errors import TemporaryError, UserError
from mmjax.sharding import batch_sharding

TELL_EVERY = 10.0  # seconds between two lines about who is missing


def join(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, *, timeout: int = 300
) -> None:
    """Joins the processes of a run; call it before anything touches a device.

    What is not given is found by JAX on Cloud TPU VMs, GKE, Slurm and Open MPI.

    Args:
      coordinator: HOST:PORT of process 0, a port that is free there.
      timeout: seconds to wait for the others.

    Raises:
      UserError: not given and not found, or two processes disagree.
      TemporaryError: somebody is missing; the sentence says who.
    """
    local_devices = None
    if None in (coordinator, count, index):
        coordinator, count, index, local_devices = _detect(coordinator, count, index, timeout)
    if None in (coordinator, count, index):
        raise UserError(
            "no cluster was found here: give --coordinator=HOST:PORT, --process-count and --process-index "
            "(0 on the coordinator's host)"
        )
    if not 0 <= index < count:
        raise UserError(f"--process-index={index} is not one of the numbers 0 to {count - 1}")
    if count == 1:
        return
    hosts = call_roll(coordinator, count, index, timeout=timeout)
    if index == 0:
        names = ", ".join(f"{number} {host}" for number, host in sorted(hosts.items()))
        print(f"all {count} processes are present: {names}", flush=True)
    jax.distributed.initialize(coordinator, count, index, local_devices, initialization_timeout=timeout)


def require_joined() -> None:
    """Raises a UserError where the TPU runtime sees other hosts that this run has not joined."""
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            f"this is one of {jax.process_count()} hosts: start the same command on all of them with "
            "--distributed (tools/tpu has scripts that do)"
        )


def _detect(*given: Any) -> tuple[str | None, int | None, int | None, Any]:
    # JAX has no public name for its detection, and by itself goes on to wait without a word.
    from jax._src.clusters import ClusterEnv

    coordinator, count, index, timeout = given
    try:
        return ClusterEnv.auto_detect_unset_distributed_params(coordinator, count, index, None, None, timeout)
    except (RuntimeError, OSError) as error:
        raise TemporaryError(f"the cluster's coordinator cannot be found: {error}") from error


def call_roll(coordinator: str, count: int, index: int, *, timeout: float) -> dict[int, str]:
    """Number -> host name of all processes, once all have answered.

    Raises:
      UserError: the address cannot be used, or two processes disagree about the run.
      TemporaryError: not all came in time.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator} is not of the form HOST:PORT")
    deadline = time.monotonic() + timeout
    if index:
        answer = _answer((host.strip("[]"), int(port)), count, index, deadline)
    else:
        answer = _Roll(count, deadline).call(int(port))
    if answer is None:
        raise TemporaryError(
            f"process {index} found no process 0 at {coordinator} within {timeout:g} s: start it there with "
            "the same --coordinator, or raise --init-timeout"
        )
    if answer["problem"]:
        kind = TemporaryError if answer["temporary"] else UserError
        raise kind(answer["problem"])
    return {int(number): host for number, host in answer["hosts"].items()}


def _answer(address: tuple[str, int], count: int, index: int, deadline: float) -> Mapping[str, Any] | None:
    """What process 0 replies to this process; None when it cannot be reached before the deadline."""
    line = json.dumps({"index": index, "count": count, "host": socket.gethostname()}) + "\n"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=left) as connection:
                connection.sendall(line.encode())
                connection.settimeout(left + 10)  # process 0 may have started to wait later
                if reply := connection.makefile(encoding="utf-8").readline():
                    return json.loads(reply)
        except (OSError, ValueError):
            pass  # not up yet, or restarted while we waited
        time.sleep(0.2)
    return None


class _Roll:
    """Process 0's side."""

    def __init__(self, count: int, deadline: float):
        self.count, self.deadline = count, deadline
        self.hosts = {0: socket.gethostname()}
        self.connections: dict[int, socket.socket] = {}
        self.problem = ""

    def call(self, port: int) -> Mapping[str, Any]:
        """Waits for the others; tells them, and returns, how it ended."""
        start = told = time.monotonic()
        with _listen(port) as server:
            server.settimeout(0.2)
            while not self.problem and time.monotonic() < self.deadline:
                self._forget_the_gone()
                if not self._missing():
                    break
                with contextlib.suppress(TimeoutError):
                    self._hear(server.accept()[0])
                if self._missing() and time.monotonic() - told > TELL_EVERY:
                    told = time.monotonic()
                    print(f"after {told - start:.0f} s: {self._tell_missing()}", flush=True)
            answer = {"hosts": self.hosts, "problem": self.problem, "temporary": not self.problem}
            if self._missing() and not self.problem:
                waited = f"within {self.deadline - start:.0f} s"
                answer["problem"] = f"{self._tell_missing(waited)}; start them, or raise --init-timeout"
            self._reply(answer)
        return answer

    def _missing(self) -> list[int]:
        return [number for number in range(self.count) if number not in self.hosts]

    def _tell_missing(self, when: str = "") -> str:
        names = [str(number) for number in self._missing()]
        more = f" and {len(names) - 16} more" if len(names) > 16 else ""
        present = f"{len(self.hosts)} of {self.count} processes came{f' {when}' if when else ''}"
        return f"{present}; missing: {', '.join(names[:16])}{more}"

    def _hear(self, connection: socket.socket) -> None:
        connection.settimeout(2)
        try:
            message = json.loads(connection.makefile(encoding="utf-8").readline())
            index, count, host = message["index"], message["count"], message["host"]
        except (OSError, ValueError, TypeError, KeyError):
            connection.close()  # a stranger
            return
        if count != self.count or not 0 <= index < self.count:
            self.problem = f"{host} came as process {index} of {count} to a run of {self.count}"
        elif index in self.hosts:
            self.problem = f"{host} and {self.hosts[index]} both came as process {index} of {self.count}"
        self.connections[-1 if self.problem else index] = connection
        if not self.problem:
            self.hosts[index] = host

    def _forget_the_gone(self) -> None:
        """Whoever came and died is missing again."""
        for index, connection in list(self.connections.items()):
            connection.setblocking(False)
            try:
                gone = not connection.recv(1)
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                connection.close()
                del self.connections[index], self.hosts[index]

    def _reply(self, answer: Mapping[str, Any]) -> None:
        for connection in self.connections.values():
            connection.settimeout(2)
            try:
                connection.sendall((json.dumps(answer) + "\n").encode())
                connection.recv(1)  # closed by the other side first, the port is free at once
            except OSError:
                pass
            connection.close()


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise UserError(
            f"port {port} of --coordinator cannot be used on this host ({error.strerror}): choose another"
        ) from error


def from_first(make: Callable[[], str]) -> str:
    """The text that `make` returns on process 0, on every process; called only there."""
    if jax.process_count() == 1:
        return make()
    text = np.frombuffer(make().encode(), np.uint8) if jax.process_index() == 0 else np.zeros(0, np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.zeros(length, np.uint8)
    padded[: len(text)] = text
    return multihost_utils.broadcast_one_to_all(padded).tobytes().decode()


def data_shard(mesh: Mesh, batch_size: int) -> tuple[int, int]:
    """(index, count): this process reads block `index` of the `count` row blocks of every global batch.

    Processes whose devices hold the same rows, as those that share a model split by `tensor` or `sequence`
    do, read the same block.

    Raises:
      UserError: the rows of two processes overlap without being the same.
    """
    rows: dict[int, set[tuple[int, int]]] = {}
    for device, (index,) in batch_sharding(mesh).devices_indices_map((batch_size,)).items():
        start, stop, _ = index.indices(batch_size)
        rows.setdefault(device.process_index, set()).add((start, stop))
    blocks = sorted({tuple(sorted(intervals)) for intervals in rows.values()})
    if sum(len(block) for block in blocks) != len({part for block in blocks for part in block}):
        raise UserError(
            f"sharding {dict(mesh.shape)} cuts through the rows of some hosts: make data x fsdp a multiple "
            "or a divisor of the number of hosts"
        )
    mine = blocks.index(tuple(sorted(rows[jax.process_index()])))
    logging.info("this process reads row block %d of %d", mine, len(blocks))
    return mine, len(blocks)
