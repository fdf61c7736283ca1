// Reads a stream that the upstream cuts.

import { client, messages, model, tell } from "./relay.mjs";

const stream = await client.chat.completions.create(
  { model, messages, stream: true },
  { query: { "standin.cut_after": "4" } },
);
let pieces = 0;
try {
  for await (const chunk of stream) pieces++;
  await tell({ pieces, raised: null });
} catch (error) {
  await tell({ pieces, raised: error.constructor.name, code: error.code, message: error.message });
}
