"""What a real Next.js app answers to each spelling of its routes: `nextjs.txt`, written by `record`."""
