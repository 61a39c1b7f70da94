use tasklog_log::Position;

/// Digits of a position that is being typed.
const DIGITS_MAX: usize = 18;

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Press {
    Forward,
    Back,
    NextOfEntity,
    PreviousOfEntity,
    First,
    Last,
    Digit(char),
    Erase,
    Enter,
    Escape,
    Quit,
    Other,
}

/// Where a step leads. All positions are exclusive but the last one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seek {
    After(Position),
    Before(Position),
    EntityAfter(Position),
    EntityBefore(Position),
    /// There, or as near as there is an event.
    At(Position),
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Stay,
    Seek(Seek),
    Quit,
}

/// Where somebody stands who steps through events, and what was typed so far. It reads no log: it says what to look for, and
/// is told what was found.
pub(super) struct Stepper {
    first: Position,
    last: Position,
    at: Position,
    typed: String,
    found_nothing: bool,
}

impl Stepper {
    pub(super) fn new(first: Position, last: Position) -> Self {
        Self { first, last, at: first, typed: String::new(), found_nothing: false }
    }

    pub(super) fn range(&self) -> (Position, Position) {
        (self.first, self.last)
    }

    pub(super) fn press(&mut self, press: Press) -> Turn {
        self.found_nothing = false;
        let typed = std::mem::take(&mut self.typed);
        let seek = match press {
            Press::Digit(digit) => {
                self.typed = typed;
                if self.typed.len() < DIGITS_MAX {
                    self.typed.push(digit);
                }
                return Turn::Stay;
            }
            Press::Erase => {
                self.typed = typed;
                self.typed.pop();
                return Turn::Stay;
            }
            Press::Enter => match typed.parse::<u64>() {
                Ok(position) => Seek::At(Position(position).clamp(self.first, self.last)),
                Err(_) => Seek::After(self.at),
            },
            Press::Escape if typed.is_empty() => return Turn::Quit,
            Press::Quit => return Turn::Quit,
            Press::Escape | Press::Other => return Turn::Stay,
            Press::Forward => Seek::After(self.at),
            Press::Back => Seek::Before(self.at),
            Press::NextOfEntity => Seek::EntityAfter(self.at),
            Press::PreviousOfEntity => Seek::EntityBefore(self.at),
            Press::First => Seek::At(self.first),
            Press::Last => Seek::At(self.last),
        };
        Turn::Seek(seek)
    }

    /// Hears what was found; nothing leaves it where it is.
    pub(super) fn arrived(&mut self, found: Option<Position>) {
        self.found_nothing = found.is_none();
        self.at = found.unwrap_or(self.at);
    }

    /// The line below the event.
    pub(super) fn prompt(&self) -> String {
        let Self { first, last, at, .. } = self;
        if !self.typed.is_empty() {
            return format!("go to event {}_   (enter goes there, escape forgets it)", self.typed);
        }
        let note = if self.found_nothing { "no such event that way   " } else { "" };
        format!(
            "{note}event {at}, of {first} to {last}   → next  ← previous  e next of this row  E previous of this row  \
             a number and enter: there  home, end  q quit"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stepper() -> Stepper {
        Stepper::new(Position(5), Position(20))
    }

    #[test]
    fn a_step_leads_on_from_where_the_last_one_ended() {
        let mut stepper = stepper();
        assert_eq!(stepper.press(Press::Forward), Turn::Seek(Seek::After(Position(5))));
        stepper.arrived(Some(Position(9)));
        assert_eq!(stepper.press(Press::Back), Turn::Seek(Seek::Before(Position(9))));
        assert_eq!(stepper.press(Press::NextOfEntity), Turn::Seek(Seek::EntityAfter(Position(9))));
        assert_eq!(stepper.press(Press::PreviousOfEntity), Turn::Seek(Seek::EntityBefore(Position(9))));
        assert_eq!(stepper.press(Press::First), Turn::Seek(Seek::At(Position(5))));
        assert_eq!(stepper.press(Press::Last), Turn::Seek(Seek::At(Position(20))));
        assert_eq!(stepper.press(Press::Enter), Turn::Seek(Seek::After(Position(9))));
    }

    #[test]
    fn where_nothing_is_found_it_stays_and_says_so_once() {
        let mut stepper = stepper();
        stepper.arrived(Some(Position(20)));
        stepper.press(Press::Forward);
        stepper.arrived(None);
        assert!(stepper.prompt().contains("no such event that way   event 20, of 5 to 20"));
        assert_eq!(stepper.press(Press::Other), Turn::Stay);
        assert!(stepper.prompt().starts_with("event 20"));
    }

    #[test]
    fn a_number_and_enter_lead_there_within_the_range() {
        let mut stepper = stepper();
        let typed = |stepper: &mut Stepper, text: &str| {
            text.chars().for_each(|digit| assert_eq!(stepper.press(Press::Digit(digit)), Turn::Stay));
        };
        typed(&mut stepper, "179");
        assert_eq!(stepper.press(Press::Erase), Turn::Stay);
        assert!(stepper.prompt().starts_with("go to event 17_"));
        assert_eq!(stepper.press(Press::Enter), Turn::Seek(Seek::At(Position(17))));
        typed(&mut stepper, "999");
        assert_eq!(stepper.press(Press::Enter), Turn::Seek(Seek::At(Position(20))));
        typed(&mut stepper, &"9".repeat(40));
        assert_eq!(stepper.press(Press::Enter), Turn::Seek(Seek::At(Position(20))));
        typed(&mut stepper, "1");
        assert_eq!(stepper.press(Press::Enter), Turn::Seek(Seek::At(Position(5))));
    }

    #[test]
    fn escape_forgets_what_was_typed_and_ends_otherwise() {
        let mut stepper = stepper();
        stepper.press(Press::Digit('1'));
        assert_eq!(stepper.press(Press::Escape), Turn::Stay);
        assert_eq!(stepper.press(Press::Escape), Turn::Quit);
        stepper.press(Press::Digit('1'));
        assert_eq!(stepper.press(Press::Forward), Turn::Seek(Seek::After(Position(5))));
        assert_eq!(stepper.press(Press::Quit), Turn::Quit);
    }
}
