// Speaks to the service as any caller does: the key lives in this tab and nowhere else.
const KEY = "lookalike-key";

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  drop: () => sessionStorage.removeItem(KEY),
};

export class Problem extends Error {
  constructor(document, status) {
    super(document.detail ?? `The service answered with ${status}.`);
    this.status = status;
    this.errors = document.errors ?? [];
  }
}

async function send(method, path, { headers, ...options } = {}) {
  const answer = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${key.get()}`, ...headers },
    cache: "no-store",
    ...options,
  });
  if (answer.ok) return answer;
  throw new Problem(await answer.json().catch(() => ({})), answer.status);
}

export const get = async (path, headers) => (await send("GET", path, { headers })).json();

export const post = async (path, body, type = "application/json", headers = {}) =>
  (await send("POST", path, { body, headers: { "Content-Type": type, ...headers } })).json();

export async function download(path, name) {
  const blob = await (await send("GET", path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
