/** What VMs are made of, and how old it is. */

import { formatAge, formatBytes } from "../api/text.ts";
import { Card } from "./card.tsx";
import type { PageState } from "./state.ts";

export function Images({ state: { images } }: { state: PageState }) {
  return (
    <Card id="images" title="Images">
      {images === null ? (
        <p class="muted">The disks are being looked at …</p>
      ) : images.length === 0 ? (
        <p class="muted">There is none on this host.</p>
      ) : (
        <table class="plain" aria-labelledby="images-title">
          <thead>
            <tr>
              <th scope="col">Image</th>
              <th scope="col">Kind</th>
              <th scope="col">Age</th>
              <th scope="col">VMs</th>
              <th scope="col">Size</th>
            </tr>
          </thead>
          <tbody>
            {images.map(({ kind, name, directory, ageSeconds, vms, bytes, current, pools }) => (
              <tr key={`${directory} ${kind} ${name}`} class={current ? undefined : "muted"}>
                <th scope="row">
                  <code>{name}</code> {pools.join(", ")}
                </th>
                <td>{kind}</td>
                <td>{formatAge(ageSeconds)}</td>
                <td>{kind === "base" ? "" : vms}</td>
                <td>{formatBytes(bytes)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}
