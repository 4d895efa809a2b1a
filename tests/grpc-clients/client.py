"""Calls a target over one channel, again and again, and prints what came back whenever it is not what came before:
`answer NAME after N calls`, or `error STATUS after N calls: why`."""

import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_unary("/tollgate.Test/Say")
last, calls = None, 0
while True:
    try:
        outcome, why = "answer " + call(b"", timeout=10).decode(), ""
    except grpc.RpcError as error:
        outcome, why = "error " + error.code().name, ": " + (error.details() or "")
    calls += 1
    if outcome != last:
        print(f"{outcome} after {calls} calls{why}", flush=True)
        last = outcome
    # A call every few milliseconds, and not as many as the machine can.
    time.sleep(0.005)
