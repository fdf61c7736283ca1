// Streams a chat completion to its end.

import { client, messages, model, tell } from "./relay.mjs";

const stream = await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
const pieces = [];
let usage = null;
for await (const chunk of stream) {
  const piece = chunk.choices[0]?.delta?.content;
  if (piece) pieces.push(piece);
  usage = chunk.usage ?? usage;
}
await tell({ text: pieces.join(""), pieces: pieces.length, tokens: usage?.completion_tokens });
