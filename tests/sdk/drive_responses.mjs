// Drives the Responses API of a running server with the `openai` package for Node; prints one JSON
// object. BASE_URL and API_KEY come from the environment.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
  maxRetries: 0,
});
const common = { model: "anzoth-default", temperature: 0 };
const input = "What is Anzoth?";

const whole = await client.responses.create({ input, ...common });
let joined = "";
const stream = client.responses.stream({ input, ...common });
stream.on("response.output_text.delta", (event) => (joined += event.delta));
const streamed = await stream.finalResponse();
const next = await client.responses.create({
  input: "And who may use it?",
  previous_response_id: whole.id,
  max_output_tokens: 16,
  ...common,
});
const items = [];
for await (const item of client.responses.inputItems.list(next.id)) items.push(item.type);
await client.responses.delete(whole.id);
let deleted = null;
try {
  await client.responses.retrieve(whole.id);
} catch (error) {
  deleted = [error.constructor.name, error.status];
}

console.log(
  JSON.stringify({
    text: whole.output_text,
    streamed: streamed.output_text,
    joined,
    cached: next.usage.input_tokens_details.cached_tokens,
    items,
    deleted,
  }),
);
