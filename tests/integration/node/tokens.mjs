// Asks while a stream without an end holds the tokens, and leaves that stream when it has been answered.

import { client, messages, model, tell } from "./relay.mjs";

const stream = await client.chat.completions.create(
  { model, messages, stream: true },
  { query: { "standin.endless": "1", "standin.interval_ms": "50" } },
);
await client.chat.completions.create({ model, messages }, { maxRetries: 1 });
stream.controller.abort();
await tell({});
