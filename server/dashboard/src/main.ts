import { mount } from "svelte";
import "./app.css";
import App from "./App.svelte";
import { live } from "./live/live.svelte";
import { theme } from "./live/theme.svelte";

theme.apply();
void live.start();
mount(App, { target: document.getElementById("app")! });
