// What this server sends, in the types of the `openai` package for Node. A test puts bodies behind
// this text and has them compiled: a field that is missing, of another type or unknown is an error.
import type OpenAI from "openai";

// The SDK itself adds `output_text`.
type Sent<R> = Omit<R, "output_text">;
export type Response = Sent<OpenAI.Responses.Response>;
type InEvent<E> = E extends { response: OpenAI.Responses.Response }
  ? Omit<E, "response"> & { response: Response }
  : E;
export type ResponseEvent = InEvent<OpenAI.Responses.ResponseStreamEvent>;

// As OpenAI itself sends completions: the first token of an echo has no probability, and chunks have
// no type of their own and no reason yet in all but the last.
type Scores = Omit<OpenAI.CompletionChoice.Logprobs, "token_logprobs" | "top_logprobs"> & {
  token_logprobs?: (number | null)[];
  top_logprobs?: ({ [token: string]: number } | null)[];
};
type Choice = Omit<OpenAI.CompletionChoice, "logprobs"> & { logprobs: Scores | null };
type ChunkChoice = Omit<Choice, "finish_reason"> & {
  finish_reason: Choice["finish_reason"] | null;
};
type Completed<C> = Omit<OpenAI.Completion, "choices"> & { choices: C[] };
export type Completion = Completed<Choice>;
export type CompletionChunk = Completed<ChunkChoice>;

// What OpenAI's types do not have: the extensions of this server.

interface Place {
  start_index: number;
  end_index: number;
  number: number;
}
interface Cited extends Place {
  vector_store_id: string;
  page: number | null;
  start: number;
  end: number;
  quote: string;
  score: number;
  verified: boolean;
}
interface Unknown {
  unknown_citations?: (Place & { type: "unknown_citation"; index: number })[];
}
interface CitedFile extends Cited {
  file_id: string;
  filename: string;
  index: number;
}
interface Rank {
  rank: number;
  score: number;
}
interface FoundChunk {
  id: string;
  position: number;
  start: number;
  end: number;
  page: number | null;
  last_page: number | null;
  headings: string[];
  embedding: Rank | null;
  text: Rank | null;
  rerank: (Rank & { fused_rank: number }) | null;
}
interface CalledTool {
  id: string;
  round: number;
  server_label: string;
  name: string;
  decision: "allowed" | "denied" | "needs_approval" | "rejected";
  rule: string;
  is_error: boolean;
  latency_ms: number;
  num_bytes: number;
}
interface Round {
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  reasoning_tokens: number;
}
interface Called {
  tool_calls?: CalledTool[];
  rounds?: Round[];
  ended_by?: string;
}
interface Bytes {
  bytes: number[];
}

declare module "openai/resources/chat/completions/completions" {
  interface ChatCompletion {
    x_anzoth?: Called;
  }
  interface ChatCompletionChunk {
    x_anzoth?: Called;
  }
  interface ChatCompletionMessage {
    reasoning_content?: string;
    x_anzoth?: Unknown;
  }
  namespace ChatCompletionMessage {
    interface Annotation {
      file_citation: CitedFile;
    }
  }
  namespace ChatCompletionChunk {
    namespace Choice {
      interface Delta {
        annotations?: OpenAI.Chat.ChatCompletionMessage.Annotation[];
        reasoning_content?: string;
        x_anzoth?: Unknown;
      }
    }
  }
}

declare module "openai/resources/responses/responses" {
  interface Response {
    store: boolean; // whether it is kept
    x_anzoth?: Called;
  }
  interface ResponseFunctionCallArgumentsDoneEvent {
    name: string; // the package for Python has it
  }
  interface ResponseOutputText {
    x_anzoth?: Unknown;
  }
  namespace ResponseOutputText {
    interface FileCitation extends Cited {}
  }
  namespace ResponseOutputTextAnnotationAddedEvent {
    interface FileCitation extends Cited {}
  }
  namespace ResponseFileSearchToolCall {
    interface Result {
      vector_store_id: string;
    }
  }
  namespace ResponseTextDeltaEvent {
    interface Logprob extends Bytes {}
    namespace Logprob {
      interface TopLogprob extends Bytes {}
    }
  }
  namespace ResponseTextDoneEvent {
    interface Logprob extends Bytes {}
    namespace Logprob {
      interface TopLogprob extends Bytes {}
    }
  }
}

declare module "openai/resources/vector-stores/vector-stores" {
  interface VectorStore {
    description: string | null;
    embedding_model: string;
  }
  interface VectorStoreSearchResponse {
    chunk: FoundChunk;
  }
}
