/** A part of the page under its title, by which screen readers call it, too. */
import type { ComponentChildren } from "preact";

interface CardProps {
  /** Its title's element is `<id>-title`, for what is named by it as well. */
  id: string;
  title: string;
  children: ComponentChildren;
}

export function Card({ id, title, children }: CardProps) {
  return (
    <section class="card" aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>{title}</h2>
      {children}
    </section>
  );
}
