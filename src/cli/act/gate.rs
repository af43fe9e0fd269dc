//! `vfguard gate show`, `gate close`, `gate open`: the gate by hand. It never waits for a build, because the gate has its
//! own lock.

use crate::audit;
use crate::boot;
use crate::boot::declined::{self, Declined};
use crate::cli::{Context, Global};
use crate::config::{Boot, Config, Gate as Settings, Mode};
use crate::error::{advise, Exit};
use crate::flow::reconcile;
use crate::flow::refuse;
use crate::gate::{self, Gate, Override, Reason, State};
use crate::host::lock::BootLock;
use crate::host::{place, Host};
use crate::kernel::{self, KernelRelease};
use crate::print;
use crate::report::json;
use crate::retention::protect::{self, Occasion};
use crate::text::Text;
use anyhow::Result;
use serde::Serialize;
use std::time::Duration;

/// How to open a gate that was closed for another reason than a kernel.
const TO_OPEN: &str = "vfguard reconcile (opens it if all kernels that may boot are safe)";

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// Say whether a reboot is refused, why, and how that is known
    Show,
    /// Refuse reboots until all kernels that may boot are found safe; with a reason, until the gate is opened by hand. Ends an override
    Close(Close),
    /// Let reboots through against the verdict, for a while and with a reason
    Open(Open),
    /// Take away all that refuses, and an override with it: for the removal of vfguard (else it closes again when it looks next)
    Remove,
}

/// `gate close`
#[derive(clap::Args)]
pub struct Close {
    /// Keep it closed, across boots too, until `gate open`: a change freeze. Kept in the audit log and the journal
    #[arg(long, value_name = "TEXT", conflicts_with = "undecided")]
    reason: Option<String>,
    /// For vfguard-fail-closed.service: a run ended without a decision. Leaves an override, and the reasons of a closed gate
    #[arg(long)]
    undecided: bool,
}

/// `gate open`
#[derive(clap::Args)]
pub struct Open {
    /// Why; kept in the audit log and the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only for this kernel, which then may also be the boot default
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<KernelRelease>,
    /// For how long, at most 24h; it ends at the next boot in any case
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "30m")]
    lasts: Duration,
}

/// The JSON object of `gate show`, `close` and `open`.
#[derive(Serialize)]
struct GateReport {
    #[serde(flatten)]
    gate: Gate,
    /// The hold of the boot default, if there is one.
    hold: Option<boot::Hold>,
    /// Declined kernels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    declined: Vec<Declined>,
    /// The command that ends the hold, if this mode or system does not use holds any more.
    #[serde(skip)]
    left_over: Option<String>,
    /// Why nothing is refused on this machine, if that is so.
    hands_off: Option<&'static str>,
    /// A scheduled shutdown that will be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    /// What was done in addition to opening the gate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    done: Vec<String>,
}

/// The machine for the gate's verbs. They must work in an emergency, so unreadable settings are reported and the defaults
/// are used.
///
/// # Errors
/// Those of [`Host::new`].
pub fn context(global: &Global) -> Result<Context> {
    let host = Host::new(&global.root)?;
    let config = Config::load(&host, global.config.as_deref()).unwrap_or_else(|e| {
        print::note(&format!("{e:#}; going on with the usual settings"));
        Config::default()
    });
    Ok(Context { host, config, global: global.clone() })
}

/// Runs `decide`. If it fails to decide, the boot default is held and the gate is closed with the reason: no verdict refuses
/// like an unsafe one.
///
/// # Errors
/// Those of `decide`.
pub fn or_closed(global: &Global, decide: impl FnOnce(&Context) -> Result<Exit>) -> Result<Exit> {
    let context = Context::new(global);
    let config = context.as_ref().map_or_else(|_| Config::default(), |c| c.config.clone());
    context.and_then(|c| decide(&c)).inspect_err(|e| {
        let Ok(host) = Host::new(&global.root) else { return };
        let root = nix::unistd::geteuid().is_root() || !host.is_live();
        if root && refuse::leaves_undecided(e) {
            let close = |settings: &Settings| gate::close(&host, settings, &[refuse::no_decision(e)]);
            let refused = refuse::undecided(&host, &config, place::place(&host), close);
            refused.done.iter().for_each(|line| print::note(line));
        }
    })
}

/// Shows, closes or opens.
///
/// # Errors
/// When the caller is not root on a live machine, when nothing is refused in this mode or on this system, and those of
/// [`gate`].
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    match &args.act {
        Act::Show => show(context),
        Act::Close(args) => close(context, args),
        Act::Open(open) => open_override(context, open),
        Act::Remove => remove(context),
    }
}

impl GateReport {
    fn new(context: &Context) -> GateReport {
        let hold = boot::held(&context.host);
        let left_over = hold.as_ref().and_then(|h| reconcile::left_over(&context.config, place::place(&context.host), h));
        let gate = gate::seen(&context.host);
        let declined = declined::read(&context.host);
        GateReport { gate, hold, declined, left_over, hands_off: hands_off(context), scheduled: None, done: Vec::new() }
    }
}

fn show(context: &Context) -> Result<Exit> {
    tell(context, GateReport::new(context), false);
    Ok(Exit::Done)
}

fn close(context: &Context, args: &Close) -> Result<Exit> {
    context.must_be_root("gate close")?;
    if args.undecided {
        return undecided(context);
    }
    if let Some(why) = hands_off(context) {
        return Err(advise(format!("the gate stays open: {why}"), "hold the boot default with the boot loader's own tool"));
    }
    let order = args.reason.as_deref().map(|reason| gate::ByHand::new(&context.host, reason)).transpose()?;
    let reason = match &order {
        Some(order) => order.reason(),
        None => Reason { kernel: None, summary: gate::CLOSED_BY_HAND.into(), remedy: TO_OPEN.into() },
    };
    let closed = gate::close_by_hand(&context.host, &context.config.gate, &[reason], order.as_ref())?;
    // Closing may have ended an override for a kernel that is still the boot default.
    let held = refuse::hold_only(&context.host, &context.config, place::place(&context.host));
    let done = held.unwrap_or_else(|e| vec![format!("boot default not held: {e:#}")]);
    tell(context, GateReport { scheduled: closed.scheduled, done, ..GateReport::new(context) }, true);
    Ok(Exit::Done)
}

/// If nothing is refused in this mode or on this system, that is success: vfguard-fail-closed.service takes any failure as
/// the sign that it must close the gate itself.
fn undecided(context: &Context) -> Result<Exit> {
    let (host, config) = (&context.host, &context.config);
    let summary = "vfguard ended without a decision (journalctl -b -u vfguard\\*)".to_owned();
    let reason = Reason { kernel: None, summary, remedy: TO_OPEN.into() };
    let refused =
        refuse::undecided(host, config, place::place(host), |settings| gate::close_undecided(host, settings, reason));
    tell(context, GateReport { done: refused.done, ..GateReport::new(context) }, true);
    match refused.failed {
        Some(e) => Err(e),
        None => Ok(if refused.not_held { Exit::Undecided } else { Exit::Done }),
    }
}

fn remove(context: &Context) -> Result<Exit> {
    context.must_be_root("gate remove")?;
    let host = &context.host;
    let order_stays = gate::remove(host)?;
    // vfguard can be removed even if the log cannot be written.
    if let Err(e) = audit::append(host, &audit::Event::now(host, audit::What::Remove, "", None)) {
        print::note(&format!("{e:#}"));
    }
    let mut done: Vec<String> = match boot::held(host) {
        Some(hold) => vec![forget(host, &hold)],
        None => given_back(host).into_iter().collect(),
    };
    done.extend(BootLock::take(host).ok().and_then(|lock| boot::unteach(host, &lock)));
    // Release what is protected for vfguard, because nothing would do that later.
    done.extend(protect::follow(host, None, Occasion::Removal));
    // Remove a prepared hold as well.
    done.extend(host.remove(boot::ready::FILE).err().map(|e| format!("{e:#}")));
    tell(context, GateReport { hands_off: None, done, ..GateReport::new(context) }, true);
    order_stays.map_or(Ok(Exit::Done), Err)
}

/// Without a hold: removes the remains of one. If the same kernel boots as before, there is nothing to report.
fn given_back(host: &Host) -> Option<String> {
    let before = boot::next_boot(host, &Boot::default()).lasting()?.kernel.clone();
    let now = BootLock::take(host).and_then(|lock| boot::clean(host, &lock)).ok()??;
    (now != before).then(|| {
        format!("THE BOOT DEFAULT IS GIVEN BACK: {now} BOOTS NEXT, and not {before}, which something of ours started")
    })
}

/// Removes what is left of a hold, since nothing would do that after vfguard is removed. The default stays where it is, if
/// possible.
fn forget(host: &Host, hold: &boot::Hold) -> String {
    let ended = BootLock::take(host).and_then(|lock| boot::unmark(host, &lock, hold));
    match ended {
        Ok(Some(now)) if now != hold.held => format!(
            "THE BOOT DEFAULT IS GIVEN BACK: {now} BOOTS NEXT, and not {}, on which it was held; vfguard was the only means to hold it",
            hold.held
        ),
        ended => {
            let left = ended.map_or_else(|e| format!("; its mark stays: {e:#}"), |_| String::new());
            let off = hold.declined.as_ref().unwrap_or(&hold.wanted);
            format!(
                "the boot default stays on {}, where it was held; for {off} set it with grubby, grub-set-default or bootctl{left}",
                hold.held
            )
        }
    }
}

fn open_override(context: &Context, open: &Open) -> Result<Exit> {
    context.must_be_root("gate open")?;
    let host = &context.host;
    if let Some(kernel) = &open.kernel {
        let installed: Vec<String> = kernel::installed(host).into_iter().map(|k| k.release.to_string()).collect();
        if !installed.iter().any(|k| k == kernel.as_str()) {
            return Err(advise(
                format!("kernel {kernel} is not installed (installed: {})", installed.join(", ")),
                "name an installed kernel, or leave --kernel out to mean all that are there",
            ));
        }
    }
    gate::open_override(host, &open.reason, open.kernel.clone(), open.lasts)?;
    let mut done: Vec<String> = open.kernel.iter().filter_map(|kernel| make_default(context, kernel)).collect();
    done.extend(protect::follow(host, boot::held(host).map(|hold| hold.held).as_ref(), Occasion::Run));
    tell(context, GateReport { done, ..GateReport::new(context) }, true);
    Ok(Exit::Done)
}

/// Undoes a hold that keeps the boot loader away from the kernel that an override names.
fn make_default(context: &Context, kernel: &KernelRelease) -> Option<String> {
    let host = &context.host;
    let off = boot::held_off(host, &boot::next_boot(host, &context.config.boot))?;
    if let Some(declined) = declined::read(host).iter().find(|d| d.kernel == *kernel) {
        return Some(format!("the boot default stays held: {}", declined.line()));
    }
    let wanted = off.wanted?;
    let held = format!("the boot default stays held, and {wanted} is what is wanted");
    if &wanted != kernel {
        return Some(format!("{held}, not {kernel}; `vfguard next-boot` says what boots"));
    }
    let moved = BootLock::take(host).and_then(|lock| boot::promote(host, &lock, Some(kernel)));
    Some(moved.map_or_else(|e| format!("{held}: {e:#}"), |change| change.what))
}

fn hands_off(context: &Context) -> Option<&'static str> {
    if gate::removing(&context.host) {
        return Some("vfguard is being removed: no reboot is refused");
    }
    match context.config.mode {
        Mode::Enforce => place::place(&context.host).hands_off(),
        Mode::Observe => Some("mode = \"observe\": verdicts are told, nothing is refused or held"),
    }
}

fn tell(context: &Context, report: GateReport, acted: bool) {
    if context.json() {
        json::object(&report).print();
        return;
    }
    if context.global.quiet && acted {
        return;
    }
    print::out(&text(&report));
}

fn text(report: &GateReport) -> Text {
    let gate = &report.gate;
    let mut text = Text::of(match (gate.state, &gate.not_confirmed) {
        (State::Open, None) => "gate: open; reboots go through",
        (State::Closed, None) => "gate: closed; reboots are refused",
        (State::Overridden, None) => "gate: overridden; reboots go through",
        (State::Open | State::Closed | State::Overridden | State::Unknown, _) => {
            "gate: not confirmed; do not rely on it to refuse or to allow a reboot"
        }
    });
    if gate.not_confirmed.is_some() || gate.state == State::Unknown {
        text.line(&format!("  {}", gate.not_confirmed.as_deref().unwrap_or("systemd was not asked")));
        text.line("  to mend it: vfguard reconcile, once the cause is gone");
    }
    for reason in &gate.reason {
        text.line(&format!("  {reason}"));
    }
    if let Some(over) = &gate.over {
        text.line(&overridden(over));
    }
    if let Some(pass) = &gate.pass {
        let (until, kernels) = (audit::stamp(pass.term.until), listed(&pass.kernels));
        text.line(&format!("  a reboot was asked for and goes through until {until}, although of {kernels}"));
    }
    if let Some(line) = &report.scheduled {
        text.line(&format!("  {line}"));
    }
    let hold = report.hold.as_ref().map(boot::Hold::line);
    let declined: Vec<String> = report.declined.iter().map(Declined::line).collect();
    let lines = report.done.iter().chain(&hold).chain(&report.left_over).chain(&declined).map(String::as_str);
    for line in lines.chain(report.hands_off) {
        text.line(&format!("  {line}"));
    }
    text.line(&format!("  seen: {}", gate.seen));
    if gate.state == State::Closed {
        text.line("  to mend it: vfguard check says how; to reboot all the same: vfguard gate open --reason TEXT");
    }
    text
}

fn overridden(over: &Override) -> String {
    let whom = over.who.told();
    let (until, kernels) = (audit::stamp(over.term.until), listed(&over.kernels));
    format!("  override by {whom} until {until}, for {kernels}: {}", over.reason)
}

fn listed(kernels: &[KernelRelease]) -> String {
    kernels.iter().map(KernelRelease::as_str).collect::<Vec<_>>().join(", ")
}
