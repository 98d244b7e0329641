// Drives a running server with Vercel's `ai`, `@ai-sdk/openai` and `@ai-sdk/openai-compatible`, as
// their users do: each kind of model, whole and streamed, a loop over tools, types, embeddings and retrieval. BASE_URL and
// API_KEY come from the environment; see flows.mjs for what is printed.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  cosineSimilarity,
  embedMany,
  generateObject,
  generateText,
  isStepCount,
  Output,
  streamObject,
  streamText,
  tool,
} from "ai";
import { z } from "zod";
import { run } from "./flows.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const server = { baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY };
const openai = createOpenAI(server);
const compatible = createOpenAICompatible({
  ...server,
  name: "anzoth",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const common = { temperature: 0, maxOutputTokens: 24, maxRetries: 0 };
const prompt = "What is Anzoth?";
const Level = z.object({ level: z.enum(["low", "high"]), note: z.string().max(8) });
const readLevel = tool({
  description: "Reads how full a tank is.",
  inputSchema: z.object({ tank: z.enum(["north", "south"]) }),
  strict: true,
  execute: async ({ tank }) => `The ${tank} tank is full.`,
});

const usageOf = ({ inputTokens, outputTokens, totalTokens }) => [
  inputTokens,
  outputTokens,
  totalTokens,
];

async function withStore(use) {
  const form = new FormData();
  form.append("purpose", "assistants");
  form.append("file", new Blob(["The owner of the boat is Mara Velten."]), "boat.txt");
  const send = async (method, path, body) => {
    const type = body instanceof FormData ? {} : { "content-type": "application/json" };
    const headers = { authorization: `Bearer ${server.apiKey}`, ...type };
    const sent = body instanceof FormData ? body : body && JSON.stringify(body);
    return (await fetch(server.baseURL + path, { method, headers, body: sent })).json();
  };
  const file = await send("POST", "/files", form);
  const store = await send("POST", "/vector_stores", { name: "boats", file_ids: [file.id] });
  let state = store;
  while (state.status === "in_progress") state = await send("GET", `/vector_stores/${store.id}`);
  try {
    return await use(store.id);
  } finally {
    await send("DELETE", `/vector_stores/${store.id}`);
    await send("DELETE", `/files/${file.id}`);
  }
}

async function textOf(model) {
  const whole = await generateText({ model, prompt, ...common });
  const parts = [];
  const streamed = streamText({ model, prompt, ...common, onError: () => {} });
  for await (const part of streamed.fullStream) parts.push(part);
  const errors = parts.filter((part) => part.type === "error").map((part) => String(part.error));
  const deltas = parts.filter((part) => part.type === "text-delta").map((part) => part.text);
  return {
    errors,
    whole: whole.text,
    usage: usageOf(whole.usage),
    finish: whole.finishReason,
    streamed: errors.length ? null : await streamed.text,
    deltas: deltas.join(""),
    streamed_usage: errors.length ? null : usageOf(await streamed.usage),
    streamed_finish: errors.length ? null : await streamed.finishReason,
  };
}

// The model has to call in the first step and may not in the second: the loop ends by itself.
const loop = {
  prompt: "How full is the north tank?",
  tools: { readLevel },
  stopWhen: isStepCount(4),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
};

async function toolsOf(model, providerOptions) {
  const asked = { model, ...loop, ...common, maxOutputTokens: 120, providerOptions };
  const whole = await generateText(asked);
  const streamed = streamText({ ...asked, onError: () => {} });
  await streamed.consumeStream();
  const stepsOf = (steps) =>
    steps.map((step) => ({
      calls: step.toolCalls.map((call) => [call.toolName, call.input]),
      results: step.toolResults.map((result) => result.output),
      finish: step.finishReason,
      text: step.text,
    }));
  return {
    whole: stepsOf(whole.steps),
    streamed: stepsOf(await streamed.steps),
    usage: [...whole.steps.map((step) => usageOf(step.usage)), usageOf(whole.usage)],
  };
}

async function typesOf(model) {
  const asked = { model, prompt: "The north tank is full. Report.", ...common, maxOutputTokens: 120 };
  const whole = await generateObject({ ...asked, schema: Level });
  const streamed = streamObject({ ...asked, schema: Level, onError: () => {} });
  const partials = [];
  for await (const partial of streamed.partialObjectStream) partials.push(partial);
  const text = await generateText({ ...asked, output: Output.object({ schema: Level }) });
  const chosen = await generateText({ ...asked, output: Output.choice({ options: ["low", "high"] }) });
  return {
    objects: [whole.object, await streamed.object, text.output],
    last_partial: partials.at(-1),
    choice: chosen.output,
  };
}

const chat = openai.chat("anzoth-default");
const responses = openai("anzoth-default");

await run({
  chat: () => textOf(chat),
  chat_tools: () => toolsOf(chat),
  chat_types: () => typesOf(chat),
  compatible: () => textOf(compatible("anzoth-default")),
  compatible_tools: () => toolsOf(compatible("anzoth-default")),
  compatible_types: () => typesOf(compatible("anzoth-default")),
  completion: () => textOf(openai.completion("anzoth-default")),
  responses: () => textOf(responses),
  responses_tools: () => toolsOf(responses),
  // Whole items are sent again instead of references to stored ones.
  responses_tools_unstored: () => toolsOf(responses, { openai: { store: false } }),
  responses_types: () => typesOf(responses),

  async remembered() {
    const first = await generateText({ model: responses, prompt, ...common });
    const { responseId } = first.providerMetadata.openai;
    const second = await generateText({
      model: responses,
      prompt: "And who may use it?",
      providerOptions: { openai: { previousResponseId: responseId } },
      ...common,
    });
    const again = await generateText({
      model: responses,
      messages: [
        { role: "user", content: prompt },
        ...first.responseMessages,
        { role: "user", content: "And who may use it?" },
      ],
      ...common,
    });
    return {
      first: usageOf(first.usage),
      second: usageOf(second.usage),
      again: usageOf(again.usage),
      texts: [second.text, again.text],
    };
  },

  file_search: () =>
    withStore(async (id) => {
      const asked = {
        model: responses,
        prompt: "Who is the owner of the boat?",
        tools: { file_search: openai.tools.fileSearch({ vectorStoreIds: [id], maxNumResults: 2 }) },
        providerOptions: { openai: { include: ["file_search_call.results"] } },
        ...common,
      };
      const whole = await generateText(asked);
      const streamed = streamText({ ...asked, onError: () => {} });
      await streamed.consumeStream();
      const shown = (content) =>
        content.map((part) =>
          part.type === "tool-result"
            ? [part.type, part.output.results.map((result) => result.text)]
            : [part.type, part.type === "source" ? part.filename : (part.text ?? part.toolName)],
        );
      return [shown(whole.content), shown(await streamed.content)];
    }),

  // Chats have no such tool in this library: the server's extension is put into the request.
  grounded_chat: () =>
    withStore(async (id) => {
      const grounded = createOpenAI({
        ...server,
        fetch: (url, init) => {
          const tools = [{ type: "file_search", vector_store_ids: [id] }];
          const body = { ...JSON.parse(init.body), tools };
          // The last word of the answer is a citation, whatever the model makes of the passages.
          body.structured_outputs = { regex: "It is Mara Velten \\[1\\]\\[9\\]" };
          return fetch(url, { ...init, body: JSON.stringify(body) });
        },
      });
      const asked = {
        model: grounded.chat("anzoth-default"),
        prompt: "Who is the owner of the boat?",
        ...common,
      };
      const whole = await generateText(asked);
      const streamed = streamText({ ...asked, onError: () => {} });
      await streamed.consumeStream();
      const shown = ({ text, sources }) => [text, sources.map(({ url, title }) => [url, title])];
      return {
        store: id,
        whole: shown(whole),
        streamed: shown({ text: await streamed.text, sources: await streamed.sources }),
      };
    }),

  async embeddings() {
    const { embeddings, usage } = await embedMany({
      model: openai.textEmbeddingModel("anzoth-embed"),
      values: ["A cat sits on the mat.", "Revenue rose by nine percent.", "Two kittens play."],
      maxRetries: 0,
    });
    const [cats, revenue, kittens] = embeddings;
    return {
      sizes: embeddings.map((vector) => vector.length),
      is_near: cosineSimilarity(cats, kittens) > cosineSimilarity(cats, revenue),
      usage,
    };
  },

  async refusals() {
    const seen = {};
    for (const [name, model] of Object.entries({ chat, responses })) {
      try {
        await generateText({ model, prompt: prompt.repeat(2000), ...common });
      } catch (error) {
        seen[name] = [error.name, error.statusCode, error.data.error.code, error.isRetryable];
      }
    }
    return seen;
  },
});
