// What client.py does, with gRPC's client for Node.

import { setTimeout as pause } from "node:timers/promises";

import grpc from "@grpc/grpc-js";
import xds from "@grpc/grpc-js-xds";

xds.register();
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const bytes = (value) => value;

const call = () =>
  new Promise((resolve) => {
    const options = { deadline: Date.now() + 10_000 };
    client.makeUnaryRequest("/tollgate.Test/Say", bytes, bytes, Buffer.alloc(0), options, (error, answer) =>
      resolve(error ? [`error ${grpc.status[error.code]}`, `: ${error.details}`] : [`answer ${answer}`, ""]),
    );
  });

let last;
for (let calls = 1; ; calls++) {
  const [outcome, why] = await call();
  if (outcome !== last) console.log(`${outcome} after ${calls} calls${why}`);
  last = outcome;
  await pause(5);
}
