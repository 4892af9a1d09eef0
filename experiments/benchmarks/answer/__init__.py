"""From the command to the answer: `action=recommend` beside what people script."""
