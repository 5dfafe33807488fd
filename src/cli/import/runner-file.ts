/** GitLab Runner's `config.toml`, as far as an import is about it. */
import { explain, type Finding } from "../../config/explain.ts";
import { configError, formatKey, type Problem } from "../../config/problems.ts";
import { type Runner, runnerFileSchema } from "../../config/runner-file.ts";
import { locate, plainValue, readToml } from "../../config/toml.ts";

export interface RunnerEntry extends Runner {
  /** How many jobs it runs at a time; 0: any number. */
  concurrent: number;
  /** The line where it begins, or a key of it stands. */
  lineOf(...path: string[]): number;
  /** Where that stands which is wrong with what is below `path`. */
  problems(path: readonly string[], findings: readonly Finding[]): Problem[];
}

/** @throws FleetingdError INVALID_CONFIG with the line */
export function readRunnerFile(file: string, text: string): RunnerEntry[] {
  const toml = readToml(file, text);
  if ("syntaxError" in toml) {
    throw configError([{ where: `${file}:${toml.at.line}`, key: "", text: toml.syntaxError }]);
  }
  const { table: root } = toml;
  // As the runner hands it to a plugin.
  const input = JSON.parse(JSON.stringify(plainValue(root)));
  // What was cut out of the file may begin with [runners.autoscaler].
  const isPart = typeof input.runners === "object" && !Array.isArray(input.runners);
  if (isPart) input.runners = [input.runners];
  const place = (path: readonly PropertyKey[]): PropertyKey[] =>
    path.filter((_, index) => !isPart || path[0] !== "runners" || index !== 1);
  const problem = ({ path, text: what }: Finding): Problem => ({
    where: `${file}:${locate(root, place(path)).line}`,
    key: formatKey(place(path)),
    text: what,
  });
  const parsed = runnerFileSchema.safeParse(input);
  if (!parsed.success) throw configError(explain(parsed.error.issues, input, []).map(problem));
  const { runners, concurrent } = parsed.data;
  return runners.map((runner, index) => {
    const own = ["runners", index];
    return {
      ...runner,
      concurrent: runner.limit > 0 ? runner.limit : concurrent,
      lineOf: (...path) => locate(root, place([...own, ...path])).line,
      problems: (path, findings) =>
        findings.map((finding) => problem({ ...finding, path: [...own, ...path, ...finding.path] })),
    };
  });
}
