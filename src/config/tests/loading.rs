//! Values, limits, references, contradictions.

use std::time::Duration;

use super::*;
use crate::bus::Transport;

#[test]
fn two_options_start_everything_and_the_rest_has_defaults() {
    let (settings, warnings) = load(MINIMAL).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.deployment.as_str(), "cloud-1");
    assert_eq!(settings.bus.rpc_response_timeout, Duration::from_secs(60));
    assert_eq!(settings.notifications.transport_url, settings.bus.transport_url);
    assert_eq!(settings.agents.transport_url, settings.bus.transport_url);
    assert_eq!(settings.notifications.topics, ["notifications"]);
    assert_eq!(settings.notifications.declare, DeclareSetting::Passive);
    assert_eq!(settings.bus.rabbit.heartbeat_timeout_threshold, 60);
    assert!(settings.bus.rabbit.direct_mandatory_flag);
    assert_eq!(settings.security.key_dir, Path::new("/var/lib/spice/keys"));
    assert_eq!(settings.database.connection(Role::Nodes).reveal(), "sqlite:////var/lib/spice/spice-nodes.sqlite");
    assert_eq!(settings.adapter.names.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["openattestation", "command"]);
    assert_eq!(settings.metrics.listen, None);
    assert_eq!(settings.pool.coalesce, Duration::from_millis(20));
    assert!(OPTIONS.iter().filter(|spec| spec.required).count() <= 5);
}

#[test]
fn values_reach_the_settings() {
    let settings = settings(
        "state_dir = /srv/spice\n[oslo_messaging_rabbit]\nssl = Yes\nkombu_reconnect_delay = 0.5\nssl_ca_file: /etc/ca.pem\n\
         [oslo_messaging_notifications]\ntopics = notifications, spice_notifications\n[metrics]\nlisten = localhost:9180\n\
         [notifications]\nresults = none\n[adapter]\nnames = command\n\
         [openattestation]\nurl = https://oat:8443\nauth_blob = xyz\n[spicectl]\nsender = admin\n",
    );
    assert!(settings.bus.rabbit.ssl);
    assert!((settings.bus.rabbit.kombu_reconnect_delay - 0.5).abs() < f64::EPSILON);
    assert_eq!(settings.bus.rabbit.ssl_ca_file, "/etc/ca.pem");
    assert_eq!(settings.notifications.topics, ["notifications", "spice_notifications"]);
    assert_eq!(settings.notifications.results, ResultsSetting::None);
    assert_eq!(settings.metrics.listen.unwrap().to_string(), "127.0.0.1:9180");
    assert_eq!(settings.security.trust_dir, Path::new("/srv/spice/trust"));
    assert_eq!(settings.openattestation.auth_blob.unwrap().reveal(), "xyz");
    assert_eq!(settings.spicectl.sender.as_deref(), Some("admin"));
}

#[test]
fn each_transport_has_its_own_url_and_its_faults_are_told_without_the_password() {
    let text = "[agents]\ntransport_url = rabbit://a:sesame@one:5672/agents?ssl=1\n";
    let settings = settings(text);
    assert_eq!(settings.transport_url(Transport::Agents).reveal(), "rabbit://a:sesame@one:5672/agents?ssl=1");
    assert!(!format!("{settings:?}").contains("sesame"), "{settings:?}");
    let options = settings.bus_options_of(Transport::Agents);
    assert_eq!((options.transport, options.rabbit == settings.bus.rabbit), (Transport::Agents, true));
    let faults = load(
        "[DEFAULT]\ntransport_url = rabbit://a:sesame@one:port/\n[spice]\ndeployment = c\n\
         [agents]\ntransport_url = rabbit://a:sesame@one/agents?sll=1\n\
         [oslo_messaging_notifications]\ntransport_url = rabbit://a:ses?ame@one/\n",
    );
    let told = shown(&faults.unwrap_err());
    for section in ["[DEFAULT]", "[agents]", "[oslo_messaging_notifications]"] {
        assert!(told.contains(&format!("{section} transport_url")), "{section}: {told}");
    }
    assert!(told.contains("sll") && !told.contains("sesame") && told.lines().count() == 3, "{told}");
}

#[test]
fn all_faults_come_together_each_with_its_line() {
    let faults = load(
        "[DEFAULT]\ntransport_ulr = rabbit://h/\ndebug = maybe\n[spise]\nx = 1\n[openattestation]\nbatch_size = 201\ncoalesce_ms = 5\nnonsense\n",
    )
    .unwrap_err();
    let text = shown(&faults);
    for expected in [
        "spice.conf:2: there is no option \"transport_ulr\" in [DEFAULT]; did you mean transport_url?",
        "spice.conf:3: [DEFAULT] debug: \"maybe\" is not true or false",
        "spice.conf:5: there is no section [spise]; did you mean [spice]?",
        "spice.conf:7: [openattestation] batch_size: \"201\" is not a whole number from 1 to 200",
        "spice.conf:8: there is no option \"coalesce_ms\" in [openattestation]; it belongs into [pool]",
        "spice.conf:9: no = in this line",
        "[DEFAULT] transport_url must be set",
        "[spice] deployment must be set",
    ] {
        assert!(text.contains(expected), "{expected}\nnot in\n{text}");
    }
    assert_eq!(faults.len(), 8, "{text}");
}

#[test]
fn contradictions_are_faults() {
    for (more, part) in [
        ("[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\namqp_auto_delete = true\n", "rabbit_quorum_queue"),
        ("[oslo_messaging_rabbit]\nssl = true\nssl_cert_file = /a\n", "needs ssl_key_file"),
        ("[openattestation]\nclient_key_file = /a\n", "needs client_cert_file"),
        ("[openattestation]\nurl = http://oat\n", "insecure_http"),
        ("[openattestation]\nurl = HTTP://oat\n", "insecure_http"),
        ("[command]\nuser = root\n", "must not be root"),
        ("[metrics]\nlisten = 9180\n", "127.0.0.1:9180"),
        ("[oslo_messaging_notifications]\ntopics = ,\n", "names no topic"),
        ("[pool]\nrun_dir =\n", "must not be empty"),
        ("[pool]\nrun_dir = run/spice\n", "absolute path"),
        ("[adapter]\nnames = comand\n", "Did you mean command?"),
        ("[notifications]\nresults = change\n", "Did you mean changes?"),
        ("[openattestation]\nbatch_size =\n", "has no value"),
        ("[nodes]\nhistory_days = 9999999999999999999999\n", "from 1 to 3650"),
        ("[oslo_messaging_rabbit]\nkombu_reconnect_delay = NaN\n", "a number from 0 to 4.5"),
        ("[DEFAULT]\ntransport_url = amqps://a:hunter2@h/\n", "rabbit://"),
        ("[spice]\ndeployment = -x\n", "deployment id"),
    ] {
        let text = fault(more);
        assert!(text.contains(part) && text.contains("spice.conf:"), "{more}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn what_works_but_deserves_a_look_is_a_warning() {
    for (more, part) in [
        ("[security]\nunsigned_admin = true\n", "lab only"),
        ("[openattestation]\nurl = http://oat\ninsecure_http = true\n", "lab only"),
        ("[openstack]\nauth_url = http://keystone/v3\npassword = hunter2\n", "not https"),
        ("[metrics]\nlisten = 0.0.0.0:9180\n", "loopback"),
        ("[oslo_messaging_rabbit]\nrabbit_ha_queues = true\n", "no effect"),
        ("[oslo_messaging_notifications]\nretry = 3\n", "no effect"),
        ("[oslo_messaging_rabbit]\nkombu_missing_consumer_retry_timeout = 61\n", "longer than"),
        ("[oslo_messaging_rabbit]\nssl_ca_file = /ca\n", "not used"),
    ] {
        let (_, warnings) = with(more).unwrap();
        assert!(warnings.len() == 1 && shown(&warnings).contains(part), "{more}: {}", shown(&warnings));
    }
}

#[test]
fn references_are_replaced_as_oslo_config_does() {
    for (written, expected) in [
        ("$state_dir/x", "/var/lib/spice/x"),
        ("${state_dir}x", "/var/lib/spicex"),
        ("$spice.state_dir/x", "/var/lib/spice/x"),
        ("${spice.state_dir}/x", "/var/lib/spice/x"),
        ("$plugin_dir", "/etc/spice/plugins"),
        ("/a$$b", "/a$b"),
        (r"/a\$b", "/a$b"),
        ("/a$", "/a$"),
        ("/a$ b$1", "/a$ b$1"),
        ("/a${", "/a${"),
        ("/a${x y}", "/a${x y}"),
    ] {
        let key = if written.contains("plugin") { ("command", "user") } else { ("pool", "run_dir") };
        let settings = settings(&format!("[{}]\n{} = {written}\n", key.0, key.1));
        let found =
            if key.0 == "pool" { settings.pool.run_dir.to_string_lossy().into_owned() } else { settings.command.user };
        assert_eq!(found, expected, "{written}");
    }
    assert!(fault("[pool]\nrun_dir = /a/$nowhere\n").contains("$nowhere names no option"));
    // Round in a circle, and a secret into something shown.
    assert!(with("[pool]\nrun_dir = $run_dir\n").is_err());
    assert!(fault("[command]\nuser = $transport_url\n").contains("names no option"));
}

#[test]
fn the_environment_wins_by_oslo_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spice.conf");
    std::fs::write(&file, MINIMAL).unwrap();
    let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut sources = Sources {
        files: vec![file],
        dirs: vec![],
        env: vec![env("OS_SPICE__DEPLOYMENT", "cloud-2"), env("OS_AUTH_URL", "x"), env("OS_NOVA__X", "y")],
    };
    assert_eq!(Settings::load(&sources).unwrap().0.deployment.as_str(), "cloud-2");
    sources.env = vec![env("OS_OPENATTESTATION__BATCH_SIZE", "0")];
    let faults = Settings::load(&sources).unwrap_err();
    assert!(
        shown(&faults).starts_with("environment variable OS_OPENATTESTATION__BATCH_SIZE: [openattestation] batch_size"),
        "{faults:?}"
    );
}

#[test]
fn secrets_show_nowhere() {
    let secrets = "[openattestation]\nauth_blob = hunter2\n\
                   [database]\nconnection = mysql://u:hunter2@h/db\n[oslo_messaging_notifications]\ntransport_url = rabbit://n:hunter2@h/\n";
    let text = format!("{:?}", settings(secrets));
    assert!(text.contains("<secret>") && !text.contains("hunter2"), "{text}");
    assert_eq!(Secret::new("x").to_string(), "<secret>");
    for bad in [
        "[oslo_messaging_notifications]\ntransport_url = http://hunter2\n",
        "[oslo_messaging_notifications]\ntransport_url = rabbit://a:$hunter2@h/\n",
        "[oslo_messaging_notifications]\ntransport_url = rabbit://a:b\n  hunter2\n",
        "[openattestation]\nauth_blob = a\n  hunter2\n",
        "[oslo_messaging_notifications]\ntransport_url = x\nhunter2\n",
        "[database]\nconnection = hunter2\n",
    ] {
        let faults = with(bad).unwrap_err();
        assert!(!shown(&faults).contains("hunter2") && !format!("{faults:?}").contains("hunter2"), "{faults:?}");
    }
}
