/** Styles are compiled into files: the page's security policy allows no inline style. */
export default { compilerOptions: { runes: true, css: "external" } };
