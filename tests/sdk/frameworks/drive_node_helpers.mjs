// Drives a running server with the helpers of the `openai` package for Node: typed answers, streams
// that are put together, and loops over tools, for Responses and for chats. BASE_URL and API_KEY
// come from the environment; see flows.mjs for what is printed.
import OpenAI from "openai";
import { ResponsesToolRunner, runnerFunction } from "openai/helpers/responses-tool-runner";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { run } from "./flows.mjs";

const server = { baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 };
const client = new OpenAI(server);
const common = { model: "anzoth-default", temperature: 0 };
const report = "The north tank is full. Report.";
const asked = "How full is the north tank?";
const Level = z.object({ level: z.enum(["low", "high"]), note: z.string().max(8) });
const Tank = z.object({ tank: z.enum(["north", "south"]) });
const readLevel = ({ tank }) => `The ${tank} tank is full.`;

// The loops ask with `auto` and end when the model calls nothing any more. What a model would like
// to do is not what is looked at here: it has to call in the first request and may not in the next.
function steered() {
  let requests = 0;
  return new OpenAI({
    ...server,
    fetch: (url, init) => {
      const body = JSON.parse(init.body);
      body.tool_choice = requests++ === 0 ? "required" : "none";
      return fetch(url, { ...init, body: JSON.stringify(body) });
    },
  });
}

async function typedResponses() {
  const body = { ...common, input: report, text: { format: zodTextFormat(Level, "level") } };
  const whole = await client.responses.parse(body);
  const stream = client.responses.stream(body);
  const types = [];
  let joined = "";
  for await (const event of stream) {
    types.push(event.type);
    if (event.type === "response.output_text.delta") joined += event.delta;
  }
  const final = await stream.finalResponse();
  return {
    parsed: [whole.output_parsed, final.output_parsed, JSON.parse(joined)],
    begins: types[0],
    ends: types.at(-1),
    snapshot: final.output_text === joined,
    id: final.id.startsWith("resp_"),
    stored: (await client.responses.retrieve(final.id)).output_text === joined,
  };
}

async function typedCalls() {
  const tool = zodResponsesFunction({ name: "read_level", parameters: Tank });
  const body = { ...common, input: asked, tools: [tool], tool_choice: "required", parallel_tool_calls: false };
  const whole = await client.responses.parse(body);
  const stream = client.responses.stream(body);
  const pieces = [];
  stream.on("response.function_call_arguments.delta", (event) => pieces.push(event.snapshot));
  const final = await stream.finalResponse();
  const callsOf = (response) =>
    response.output
      .filter((item) => item.type === "function_call")
      .map((item) => [item.name, item.parsed_arguments]);
  return { whole: callsOf(whole), streamed: callsOf(final), last_piece: pieces.at(-1) };
}

async function responsesLoop(options) {
  const calls = [];
  const tool = zodResponsesFunction({
    name: "read_level",
    parameters: Tank,
    function: (given) => {
      calls.push(given);
      return readLevel(given);
    },
  });
  const runner = new ResponsesToolRunner({ functions: [runnerFunction(tool)] });
  const body = { ...common, input: asked, max_output_tokens: 120, parallel_tool_calls: false };
  const turns = [];
  for await (const turn of runner.iterate(steered(), body, { maxSteps: 4, ...options })) {
    turns.push({
      types: turn.response.output.map((item) => item.type),
      text: turn.response.output_text,
      final: turn.final,
      total: turn.response.usage.total_tokens,
    });
  }
  return { calls, turns };
}

async function chatLoop(stream) {
  const tool = zodFunction({ name: "read_level", parameters: Tank, function: readLevel });
  const runner = steered().chat.completions.runTools({
    ...common,
    messages: [{ role: "user", content: asked }],
    tools: [tool],
    parallel_tool_calls: false,
    max_tokens: 120,
    ...(stream && { stream, stream_options: { include_usage: true } }),
  });
  const final = await runner.finalContent();
  return {
    final,
    roles: runner.messages.map((message) => message.role),
    result: await runner.finalFunctionToolCallResult(),
    usage: await runner.totalUsage(),
  };
}

await run({
  typed_responses: typedResponses,
  typed_calls: typedCalls,
  responses_loop: () => responsesLoop({}),
  responses_loop_streamed: () => responsesLoop({ stream: true }),
  responses_loop_eager: () => responsesLoop({ stream: true, eager: true }),
  chat_loop: () => chatLoop(false),
  chat_loop_streamed: () => chatLoop(true),

  async typed_chats() {
    const body = {
      ...common,
      messages: [{ role: "user", content: report }],
      response_format: zodResponseFormat(Level, "level"),
    };
    const whole = await client.chat.completions.parse(body);
    const stream = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
    const final = await stream.finalChatCompletion();
    return {
      parsed: [whole.choices[0].message.parsed, final.choices[0].message.parsed],
      usage: [whole.usage.total_tokens, final.usage.total_tokens],
    };
  },

  async counted() {
    const input = [{ role: "user", content: asked }];
    const count = await client.responses.inputTokens.count({ ...common, input });
    const made = await client.responses.create({ ...common, input, max_output_tokens: 16 });
    return [count.input_tokens, made.usage.input_tokens];
  },

  async aborted() {
    const stream = await client.responses.create({ ...common, input: "Write on.", stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") break; // ends the request
    }
    return stream.controller.signal.aborted;
  },
});
