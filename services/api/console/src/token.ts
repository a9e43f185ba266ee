/** The bearer token of this browser tab: taken from the address or the form, forgotten with the tab. */

const PLACE = "nomaflow.token";

/** Take `#token=...` out of the address bar, and with it out of the history and of bookmarks. */
function fromAddress(): string | null {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return null;
  fragment.delete("token");
  const rest = fragment.size > 0 ? `#${fragment}` : "";
  history.replaceState(null, "", location.pathname + location.search + rest);
  return token.trim() || null;
}

export function read(): string | null {
  const given = fromAddress();
  if (given !== null) keep(given);
  return given ?? sessionStorage.getItem(PLACE);
}

export function keep(token: string): void {
  sessionStorage.setItem(PLACE, token);
}

export function forget(): void {
  sessionStorage.removeItem(PLACE);
}
