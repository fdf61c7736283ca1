// Leaves a stream without an end after a few pieces.

import { client, messages, model, tell } from "./relay.mjs";

const stream = await client.chat.completions.create(
  { model, messages, stream: true },
  { query: { "standin.endless": "1", "standin.interval_ms": "5" } },
);
let pieces = 0;
for await (const chunk of stream) {
  if (chunk.choices[0]?.delta?.content && ++pieces === 5) break;
}
await tell({ pieces });
