import { createRoot } from "react-dom/client";
import { Page } from "./page";
import "./page.css";

// The theme that GraphiQL's settings keep; the door wears it too.
const theme = localStorage.getItem("graphiql:theme");
if (theme === "light" || theme === "dark") document.body.classList.add(`graphiql-${theme}`);

const place = document.getElementById("page");
if (place) createRoot(place).render(<Page />);
