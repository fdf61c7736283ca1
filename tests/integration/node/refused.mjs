// Asks until the budget is spent; an SDK that tried again would add answers.

import { client, messages, model, tell } from "./relay.mjs";

await client.chat.completions.create({ model, messages });
try {
  await client.chat.completions.create({ model, messages }, { maxRetries: 5 });
  await tell({ raised: null });
} catch (error) {
  await tell({ raised: error.constructor.name, code: error.code });
}
