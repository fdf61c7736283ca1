// Asks again, by the SDK's own doing, when it is told to come back later.
// Arguments: the query of the requests, as JSON; and whether to send more of them until one is refused.

import { answers, client, messages, model, tell } from "./relay.mjs";

const query = JSON.parse(process.argv[2]);
const untilRefused = process.argv[3] === "until-refused";
do {
  await client.chat.completions.create({ model, messages }, { query });
} while (untilRefused && !answers.some((answer) => answer.status === 429));
await tell({});
