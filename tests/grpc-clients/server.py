"""A gRPC server that answers every call with its own name. Prints `listening PORT`, then serves until it is killed."""

import sys
from concurrent import futures

import grpc

NAME = sys.argv[1].encode()


class AnyMethod(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: NAME)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers((AnyMethod(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening {port}", flush=True)
server.wait_for_termination()
