//! From a conversation to a prompt.

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};
use serde::Serialize;
use zoo_training::ChatTemplate;

use crate::limits::TEMPLATE_FUEL;
use crate::served::{Served, TemplateError};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Message {
    pub role: String,
    pub content: String,
}

/// How a conversation becomes a text.
pub(crate) enum Template {
    /// A script of lines that start with `User:` and `Assistant:`, for a model that was only trained on text.
    Script,
    /// The template that came with the model.
    Jinja(Box<Environment<'static>>),
}

/// What a conversation became.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChatPrompt {
    pub tokens: Vec<u32>,
    /// What ends the answer, beside the model's own tokens.
    pub stops: Vec<String>,
}

const TEMPLATE: &str = "chat";

impl Template {
    pub fn new(chat: Option<&ChatTemplate>) -> Result<Self, TemplateError> {
        let Some(chat) = chat else { return Ok(Self::Script) };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_recursion_limit(100);
        environment.set_fuel(Some(TEMPLATE_FUEL));
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_global("bos_token", chat.begin.clone());
        environment.add_global("eos_token", chat.end.clone());
        let added = environment.add_template_owned(TEMPLATE, chat.template.clone());
        added.map_err(|error| TemplateError(error.to_string()))?;
        Ok(Self::Jinja(Box::new(environment)))
    }
}

/// The prompt of a conversation whose next message is the assistant's. What people wrote never becomes a control
/// token, whatever they spell.
pub(crate) fn of_conversation(served: &Served, messages: &[Message]) -> Result<ChatPrompt, String> {
    match &served.template {
        Template::Script => Ok(ChatPrompt {
            tokens: zoo_training::prompt(&served.tokenizer, &script(messages)),
            stops: vec!["\nUser:".to_owned()],
        }),
        Template::Jinja(environment) => {
            let guarded: Vec<Message> = messages
                .iter()
                .map(|message| Message {
                    role: served.tokenizer.guard(&message.role),
                    content: served.tokenizer.guard(&message.content),
                })
                .collect();
            let template = environment.get_template(TEMPLATE).map_err(|error| error.to_string())?;
            let text = template
                .render(context! { messages => guarded, add_generation_prompt => true, tools => () })
                .map_err(|error| error.to_string())?;
            let tokens = served.tokenizer.encode_with_controls(&text);
            Ok(ChatPrompt { tokens, stops: Vec::new() })
        }
    }
}

fn script(messages: &[Message]) -> String {
    let line = |message: &Message| match message.role.as_str() {
        "user" => format!("User: {}\n", message.content),
        "assistant" => format!("Assistant: {}\n", message.content.trim_start()),
        _ => format!("{}\n", message.content),
    };
    messages.iter().map(line).collect::<String>() + "Assistant:"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn without_a_template_a_conversation_is_a_script() {
        let messages = [
            message("system", "A play."),
            message("user", "hello"),
            message("assistant", " good day"),
            message("user", "who?"),
        ];
        let expected = "A play.\nUser: hello\nAssistant: good day\nUser: who?\nAssistant:";
        assert_eq!(script(&messages), expected);
    }

    #[test]
    fn a_template_is_rendered_as_python_does() {
        let template = "{%- for message in messages %}\n    {{- '<|im_start|>' + message['role'] + '\\n' + message.content.strip() }}\n    {%- if not loop.last %}<|im_end|>{% endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}!{% endif %}{{ eos_token }}";
        let chat = ChatTemplate { template: template.to_owned(), begin: String::new(), end: "E".to_owned() };
        let Ok(Template::Jinja(environment)) = Template::new(Some(&chat)) else { panic!("it parses") };
        let messages = [message("user", " a "), message("assistant", "b")];
        let text = environment
            .get_template(TEMPLATE)
            .and_then(|it| it.render(context! { messages, add_generation_prompt => true }))
            .expect("it renders");
        assert_eq!(text, "<|im_start|>user\na<|im_end|><|im_start|>assistant\nb!E");
    }

    #[test]
    fn a_template_that_is_wrong_or_endless_is_an_error() {
        let of = |template: &str| {
            Template::new(Some(&ChatTemplate {
                template: template.to_owned(),
                begin: String::new(),
                end: String::new(),
            }))
        };
        assert!(of("{% if %}").is_err_and(|error| error.to_string().contains("hint: ")));
        for wrong in [
            "{{ raise_exception('roles must alternate') }}",
            "{% for a in range(9999999) %}{% for b in range(9999999) %}{{ b }}{% endfor %}{% endfor %}",
        ] {
            let Ok(Template::Jinja(environment)) = of(wrong) else { panic!("it parses") };
            assert!(environment.get_template(TEMPLATE).expect("there").render(context! {}).is_err());
        }
    }
}
